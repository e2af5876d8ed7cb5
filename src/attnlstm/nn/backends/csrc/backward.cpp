// The backward of a layer. With d for the gradient of the loss, from the last step read to the first:
//
//     dc_t = dc_t + dh_t * o_t * (1 - tanh(c_t)^2)
//     dz_t = (dc_t g i (1-i),  dc_t c_{t-1} f (1-f),  dc_t i (1-g^2),  dh_t tanh(c_t) o (1-o))
//     dc_{t-1} = dc_t * f_t          dh_{t-1} = dz_t W_hh          dx_t = dz_t W_ih
//
// A slice goes back through the time steps and writes dz over the gates. Afterwards the gradient of each
// weight is one product over all steps, such as dW_hh = sum of dz_t h_{t-1}; see sums.h.

#include "layer.h"
#include "sums.h"

namespace attnlstm {
namespace {

// Computes dz of one step and one vector of hidden units from dh and dc, and writes it over the gates.
// Writes dc_{t-1} over dc and, unless `hidden` is nullptr, o * tanh(c) there.
template <typename T>
inline void cell_backward(
    T* gates, const Real<T>* c, const Real<T>* c_before, const Real<T>* d_hidden, Real<T>* d_c,
    T* hidden) {
  constexpr int64_t lanes = kLanes<T>;
  const Vector<T> i = load(gates), f = load(gates + lanes);
  const Vector<T> g = load(gates + 2 * lanes), o = load(gates + 3 * lanes);
  const Vector<T> tanh_c = tanh(load(c)), dh = load(d_hidden);
  const Vector<T> dc = load(d_c) + dh * o * (1 - tanh_c * tanh_c);
  store(dc * g * i * (1 - i), gates);
  store(dc * load(c_before) * f * (1 - f), gates + lanes);
  store(dc * i * (1 - g * g), gates + 2 * lanes);
  store(dh * tanh_c * o * (1 - o), gates + 3 * lanes);
  store(dc * f, d_c);
  if (hidden) {
    store(o * tanh_c, hidden);
  }
}

// What the sums over all steps read: where each step's rows begin. Steps are in packed order.
template <typename T>
struct StepRows {
  std::vector<const T*> x, h_before, unprojected;
  explicit StepRows(int64_t steps) : x(steps), h_before(steps), unprojected(steps) {}
};

// What the slices of a backward share: what they read, the packed weights, and the results that they
// write.
template <typename T>
struct BackwardShared {
  const Saved& saved;
  const OutputGradients& d_outputs;
  InitialH<T> h_0;
  std::vector<Panels<T>> w_ih;  // for each direction, empty unless the gradient of the data is needed
  std::vector<Panels<T>> w_hh;  // for each direction
  std::vector<Panels<T>> w_hr;  // for each direction, empty without projection
  InputGradients gradients;
  std::vector<Tensor> d_data;          // for each direction: [rows, F], or undefined
  Tensor d_projected;                  // dh in panels [D, panel, N, 4 vectors], with projection only
  Tensor unprojected;                  // o * tanh(c) [D, N, padded H], with projection only
  std::vector<StepRows<T>> step_rows;  // for each direction

  BackwardShared(
      const Batch& batch, const LayerInputs& inputs, const Saved& saved,
      const OutputGradients& d_outputs, bool needs_data)
      : saved(saved),
        d_outputs(d_outputs),
        h_0(inputs.h_0, inputs.size_h()),
        d_data(inputs.directions()),
        step_rows(inputs.directions(), StepRows<T>(batch.steps())) {
    const int64_t directions = inputs.directions(), hidden_size = inputs.hidden_size();
    const int64_t input_size = inputs.input_size(), size_h = inputs.size_h();
    const auto options = inputs.data.options();
    for (const Weights& weights : inputs.weights) {
      const auto rows = [&](const Tensor& weight, int64_t size) {
        return gate_rows(weight.const_data_ptr<T>(), hidden_size, size);
      };
      Weights d_weights;
      w_hh.push_back(Panels<T>::of_rows(options, rows(weights.w_hh, size_h), size_h));
      d_weights.w_ih = empty(weights.w_ih.sizes(), options);
      d_weights.w_hh = empty(weights.w_hh.sizes(), options);
      d_weights.b_ih = empty({kGates * hidden_size}, options);
      if (needs_data) {
        w_ih.push_back(Panels<T>::of_rows(options, rows(weights.w_ih, input_size), input_size));
      }
      if (weights.w_hr.defined()) {
        const T* first = weights.w_hr.const_data_ptr<T>();
        w_hr.push_back(Panels<T>::of_rows(
            options, row_pointers(first, size_h, hidden_size), hidden_size));
        d_weights.w_hr = empty(weights.w_hr.sizes(), options);
      }
      gradients.weights.push_back(d_weights);
    }
    const auto like = [&](const Tensor& state) {
      return state.defined() ? empty(state.sizes(), options) : Tensor();
    };
    gradients.h_0 = like(inputs.h_0);
    gradients.c_0 = like(inputs.c_0);
    for (int64_t d = 0; needs_data && d < directions; ++d) {
      d_data[d] = empty_in_huge_pages({batch.rows, input_size}, options);
    }
    if (inputs.projects()) {
      d_projected =
          zeros({directions, count_panels<T>(size_h), batch.steps(), kWidth<T>}, options);
      unprojected = empty({directions, batch.steps(), inputs.width()}, options);
    }
  }
};

// A slice on its way back through the time steps.
template <typename T>
struct Backward : SliceTask {
  BackwardShared<T>& shared;

  const Tensor &output = shared.saved.output, &cells = shared.saved.cells;
  const Tensor& d_output = shared.d_outputs.output;
  Tensor &d_data = shared.d_data[d], &d_projected = shared.d_projected;
  StepRows<T>& step_rows = shared.step_rows[d];
  bool projects = inputs.projects();
  int64_t k = batch.time();  // the number of time steps that are left

  // The hidden units of this member of the team: whole panels of the columns of W_hh.
  int64_t first_unit = std::min(width, team.begin(count_panels<T>(width)) * kWidth<T>);
  int64_t last_unit = std::min(width, team.end(count_panels<T>(width)) * kWidth<T>);
  int64_t chunk_steps =
      steps_of_chunk(kGates * width * int64_t(sizeof(T)) / team.members, count, steps_left);
  // Holds the gates at first, dz in the end.
  GatePanels<T> z{
      shared.saved.gates.template mutable_data_ptr<T>() + d * shared.saved.gates.stride(0),
      batch.steps()};
  // Rows for each sequence. `hidden` is o * tanh(c), which is h except with projection.
  Tensor c_start, d_h_rows, d_c_rows, d_hidden_rows;
  std::vector<Real<T>*> first_c, dh, dc, d_hidden;
  std::vector<const Real<T>*> c, c_before;
  std::vector<int64_t> places;
  // For each step whose dx is still to be computed.
  std::vector<const T*> dz;
  std::vector<T*> dx;

  void advance() {
    const ProductUnit<T> unit_of_products;
    if (dh.empty()) {
      begin();
    }
    dz.clear();
    dx.clear();
    for (; k > 0; --k) {
      const int64_t running = slice.count(batch.sizes[batch.at(k - 1, d)]);
      if (static_cast<int64_t>(dz.size()) + running > chunk_steps) {
        break;
      }
      step(running);
    }
    steps_left -= dz.size();
    if (d_data.defined()) {
      const int64_t first = team.begin(dz.size()), last = team.end(dz.size());
      multiply_rows(rows_of_dz(first, last), shared.w_ih[d], Team(), dx.data() + first);
    }
    if (steps_left == 0) {
      finish();
    }
  }

 private:
  void begin() {
    const auto padded_rows = [&](const Tensor& from, int64_t size) {
      Tensor result = zeros({count, padded(size)}, cells.options());
      for (int64_t number = 0; from.defined() && number < count; ++number) {
        std::copy_n(
            from.const_data_ptr<T>() + state_row(number) * size, size,
            result.mutable_data_ptr<Real<T>>() + number * padded(size));
      }
      return result;
    };
    const auto rows = [&](Tensor& tensor) {
      return row_pointers(tensor.mutable_data_ptr<Real<T>>(), count, tensor.size(1));
    };
    c_start = padded_rows(inputs.c_0, hidden_size);
    d_h_rows = padded_rows(shared.d_outputs.h_n, size_h);
    d_c_rows = padded_rows(shared.d_outputs.c_n, hidden_size);
    d_hidden_rows = projects ? zeros({count, width}, cells.options()) : d_h_rows;
    first_c = rows(c_start);
    dh = rows(d_h_rows);
    dc = rows(d_c_rows);
    d_hidden = rows(d_hidden_rows);
    c.resize(count);
    c_before.resize(count);
    places.resize(count);
  }

  Rows<T> rows_of_dz(int64_t first, int64_t last) const {
    return {dz.data() + first, last - first, kWidth<T>, z.panel_size()};
  }

  // Goes back by one time step, in which this many sequences run.
  void step(int64_t running) {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t t = batch.at(k - 1, d), before = k > 1 ? batch.at(k - 2, d) : -1;
    const int64_t running_before = k > 1 ? slice.count(batch.sizes[before]) : 0;
    const int64_t first_dz = dz.size();
    const Real<T>* c_rows = cells.const_data_ptr<Real<T>>() + d * cells.stride(0);
    for (int64_t number = 0; number < running; ++number) {
      const int64_t rank = slice.ranks[number], place = batch.place(t, rank);
      const int64_t row = batch.row(t, rank);
      places[number] = place;
      c[number] = c_rows + place * width;
      c_before[number] = first_c[number];
      const T* h_before = shared.h_0.row(state_row(number));
      if (number < running_before) {
        c_before[number] = c_rows + batch.place(before, rank) * width;
        h_before = output.const_data_ptr<T>() + output_offset(batch.row(before, rank));
      }
      if (team.first == 0) {
        step_rows.x[place] = inputs.data.const_data_ptr<T>() + row * input_size;
        step_rows.h_before[place] = h_before;
      }
      dz.push_back(z.at(0, place));
      if (d_data.defined()) {
        dx.push_back(d_data.mutable_data_ptr<T>() + row * input_size);
      }
      if (d_output.defined()) {
        const T* from = d_output.const_data_ptr<T>() + output_offset(row);
        for (int64_t unit = first_unit; unit < std::min(size_h, last_unit); unit += lanes) {
          store(load(dh[number] + unit) + load(from + unit, size_h - unit), dh[number] + unit);
        }
      }
    }
    if (projects) {
      for (int64_t number = 0; number < running; ++number) {
        for (int64_t unit = 0; unit < size_h; unit += lanes) {
          const int64_t panel = d * d_projected.size(1) + unit / kWidth<T>;
          const int64_t first = (panel * batch.steps() + places[number]) * kWidth<T>;
          T* to = d_projected.mutable_data_ptr<T>() + first;
          store(load(dh[number] + unit), to + unit % kWidth<T>);
        }
      }
      if constexpr (std::is_same_v<T, Real<T>>) {
        multiply_rows(Rows<T>{dh.data(), running}, shared.w_hr[d], team, d_hidden.data());
      }
    }
    for (int64_t unit = first_unit; unit < last_unit; unit += lanes) {
      for (int64_t number = 0; number < running; ++number) {
        T* hidden = nullptr;
        if (projects) {
          const int64_t first = (d * batch.steps() + places[number]) * width;
          hidden = shared.unprojected.template mutable_data_ptr<T>() + first;
          step_rows.unprojected[places[number]] = hidden;
          hidden += unit;
        }
        cell_backward(
            z.at(unit / lanes, places[number]), c[number] + unit, c_before[number] + unit,
            d_hidden[number] + unit, dc[number] + unit, hidden);
      }
    }
    team.wait();
    multiply_rows(rows_of_dz(first_dz, dz.size()), shared.w_hh[d], team, dh.data());
  }

  // Writes the gradients of the initial state and zeros on the padding.
  void finish() {
    const auto copy_units = [&](const std::vector<Real<T>*>& rows, Tensor& to, int64_t size) {
      const int64_t units = std::min(size, last_unit) - first_unit;
      for (int64_t number = 0; to.defined() && units > 0 && number < count; ++number) {
        T* first = to.mutable_data_ptr<T>() + state_row(number) * size + first_unit;
        std::copy_n(rows[number] + first_unit, units, first);
      }
    };
    copy_units(dh, shared.gradients.h_0, size_h);
    copy_units(dc, shared.gradients.c_0, hidden_size);
    for (int64_t number = team.begin(count); d_data.defined() && number < team.end(count); ++number) {
      batch.for_each_padding(slice.ranks[number], [&](int64_t row) {
        std::fill_n(d_data.mutable_data_ptr<T>() + row * input_size, input_size, T(0));
      });
    }
    is_finished = true;
  }
};

// Computes the gradients of the weights by sums over all steps, once the slices have written dz.
template <typename T>
void sum_over_steps(const Batch& batch, const LayerInputs& inputs, BackwardShared<T>& shared) {
  const int64_t directions = inputs.directions(), hidden_size = inputs.hidden_size();
  const int64_t size_h = inputs.size_h(), steps = batch.steps();
  const Tensor &gates = shared.saved.gates, &d_projected = shared.d_projected;

  std::vector<std::vector<T*>> rows;  // of the gradients; reserved, because the sums point into it
  rows.reserve(directions * 4);
  std::vector<SumOverSteps<T>> sums;
  const auto add_tasks = [&](const std::vector<Left<T>>& lefts, const T* panels, int64_t count) {
    int64_t left_size = 0;
    for (const Left<T>& left : lefts) {
      left_size += left.size;
    }
    const int64_t at_once = panels_of_task<T>(directions, count, left_size, steps);
    for (int64_t first = 0; first < count; first += at_once) {
      sums.push_back(
          {lefts, panels + first * steps * kWidth<T>, std::min(at_once, count - first), steps,
           shared.saved.cells.options()});
      for (Left<T>& left : sums.back().lefts) {
        left.rows += first * kWidth<T>;
      }
    }
  };
  const T one = 1;
  const std::vector<const T*> ones(steps, &one);  // the left side of the sum for the bias
  for (int64_t d = 0; d < directions; ++d) {
    const StepRows<T>& step_rows = shared.step_rows[d];
    Weights& gradients = shared.gradients.weights[d];
    const auto left = [&](const std::vector<const T*>& first, Tensor& gradient, int64_t size) {
      rows.push_back(gate_rows(gradient.mutable_data_ptr<T>(), hidden_size, size));
      return Left<T>{first.data(), size, rows.back().data()};
    };
    add_tasks(
        {left(step_rows.x, gradients.w_ih, inputs.input_size()),
         left(step_rows.h_before, gradients.w_hh, size_h), left(ones, gradients.b_ih, 1)},
        gates.const_data_ptr<T>() + d * gates.stride(0), inputs.width() / kLanes<T>);
    if (inputs.projects()) {
      const int64_t panels = d_projected.size(1);
      rows.push_back(row_pointers(gradients.w_hr.mutable_data_ptr<T>(), size_h, hidden_size));
      rows.back().resize(panels * kWidth<T>);
      add_tasks(
          {{step_rows.unprojected.data(), hidden_size, rows.back().data()}},
          d_projected.const_data_ptr<T>() + d * d_projected.stride(0), panels);
    }
  }
  advance_all(sums);
  for (int64_t d = 0; d < directions; ++d) {
    Weights& gradients = shared.gradients.weights[d];
    if (inputs.weights[d].b_ih.defined()) {
      // The gradients of the biases are equal, but a caller may scale one of them in place.
      gradients.b_hh = gradients.b_ih.clone();
    } else {
      gradients.b_ih = Tensor();
    }
  }
}

}  // namespace

InputGradients backward(
    const Batch& batch, const LayerInputs& inputs, const Saved& saved,
    const OutputGradients& d_outputs, bool needs_data) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    BackwardShared<T> shared(batch, inputs, saved, d_outputs, needs_data);
    const auto task = [&](const Slice& slice, const Team& team) {
      return Backward<T>{{batch, inputs, slice, team}, shared};
    };
    run_layer<T>(batch, inputs, shared.w_hh[0].bytes(), task);
    sum_over_steps(batch, inputs, shared);
    if (needs_data) {
      Tensor d_data = shared.d_data[0];
      if (inputs.directions() == 2) {
        d_data += shared.d_data[1];
      }
      shared.gradients.data = d_data.view(inputs.data.sizes());
    }
    return shared.gradients;
  };
  return with_dtype(inputs.data, run);
}

}  // namespace attnlstm
