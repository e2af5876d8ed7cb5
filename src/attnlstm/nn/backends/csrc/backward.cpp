// The backward of a layer. With d for the gradient of the loss, from the last step read to the first:
//
//     dc_t = dc_t + dh_t * o_t * (1 - tanh(c_t)^2)
//     dz_t = (dc_t g i (1-i), dc_t c_{t-1} f (1-f), dc_t i (1-g^2), dh_t tanh(c_t) o (1-o))
//     dc_{t-1} = dc_t * f_t          dh_{t-1} = dz_t W_hh
//
// and afterwards one product over all steps for each weight, such as dW_hh = sum of dz_t h_{t-1}.

#include "layer.h"
#include "sums.h"

namespace attnlstm {
namespace {

// dz of one step and one vector of hidden units, in the place of the gates, given dh and dc. Leaves
// dc_{t-1} in the place of dc.
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

// What the sums over all steps read: of each step, in packed order, where its rows begin.
template <typename T>
struct StepRows {
  std::vector<const T*> x, h_before, unprojected;
  explicit StepRows(int64_t steps) : x(steps), h_before(steps), unprojected(steps) {}
};

// A slice's way back through the time steps.
template <typename T>
struct Backward : SliceTask {
  const InitialH<T>& h_0;
  const Tensor &d_output, &d_h_n, &d_c_n;  // undefined: zeros
  const Tensor &output, &cells;
  const std::vector<Panels<T>>&w_ih, &w_hh, &w_hr;  // w_ih and w_hr may be empty
  Tensor& gates;                                    // come in as the gates, go out as dz
  Tensor &d_h_0, &d_c_0;                            // undefined: not wanted
  Tensor& d_data;                                   // [rows, F], undefined: not wanted
  Tensor &d_projected, &unprojected;                // undefined without projection
  std::vector<StepRows<T>>& step_rows;              // of each direction, written here

  bool projects = !w_hr.empty();
  int64_t k = batch.time();  // time steps are before this

  // The team's units: by panels of W_hh, whose columns they are.
  int64_t first_unit = std::min(width, team.begin(count_panels<T>(width)) * kWidth<T>);
  int64_t last_unit = std::min(width, team.end(count_panels<T>(width)) * kWidth<T>);
  int64_t chunk_steps =
      steps_of_chunk(kGates * width * int64_t(sizeof(T)) / team.members, count, steps_left);
  GatePanels<T> z{gates.mutable_data_ptr<T>() + d * gates.stride(0), batch.steps()};
  // Of each sequence; d_hidden is that of o * tanh(c), with a projection another than that of h.
  Tensor c_start, d_h_rows, d_c_rows, d_hidden_rows;
  std::vector<Real<T>*> first_c, dh, dc, d_hidden;
  std::vector<const Real<T>*> c, c_before;
  std::vector<int64_t> places;
  std::vector<const T*> dz;  // of the steps whose dx is still to be computed
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
      multiply_rows(rows_of_dz(first, last), w_ih[d], Team(), dx.data() + first);
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
        const int64_t sequence = d * batch_size + batch.order[slice.ranks[number]];
        std::copy_n(
            from.const_data_ptr<T>() + sequence * size, size,
            result.mutable_data_ptr<Real<T>>() + number * padded(size));
      }
      return result;
    };
    const auto row_pointers = [&](Tensor& tensor) {
      std::vector<Real<T>*> pointers(count);
      for (int64_t number = 0; number < count; ++number) {
        pointers[number] = tensor.mutable_data_ptr<Real<T>>() + number * tensor.size(1);
      }
      return pointers;
    };
    c_start = padded_rows(c_0, hidden_size);
    d_h_rows = padded_rows(d_h_n, size_h);
    d_c_rows = padded_rows(d_c_n, hidden_size);
    d_hidden_rows = projects ? zeros({count, width}, cells.options()) : d_h_rows;
    first_c = row_pointers(c_start);
    dh = row_pointers(d_h_rows);
    dc = row_pointers(d_c_rows);
    d_hidden = row_pointers(d_hidden_rows);
    c.resize(count);
    c_before.resize(count);
    places.resize(count);
  }

  Rows<T> rows_of_dz(int64_t first, int64_t last) const {
    return {dz.data() + first, last - first, kWidth<T>, z.panel_size()};
  }

  // The time step before k, of this many running sequences.
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
      const T* h_before = h_0.of(d * batch_size + batch.order[rank]);
      if (number < running_before) {
        c_before[number] = c_rows + batch.place(before, rank) * width;
        h_before =
            output.const_data_ptr<T>() + (batch.row(before, rank) * directions + d) * size_h;
      }
      if (team.first == 0) {
        step_rows[d].x[place] = data.const_data_ptr<T>() + row * input_size;
        step_rows[d].h_before[place] = h_before;
      }
      dz.push_back(z.at(0, place));
      if (d_data.defined()) {
        dx.push_back(d_data.mutable_data_ptr<T>() + row * input_size);
      }
      if (d_output.defined()) {
        const T* from = d_output.const_data_ptr<T>() + (row * directions + d) * size_h;
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
        multiply_rows(Rows<T>{dh.data(), running}, w_hr[d], team, d_hidden.data());
      }
    }
    for (int64_t unit = first_unit; unit < last_unit; unit += lanes) {
      for (int64_t number = 0; number < running; ++number) {
        T* hidden = nullptr;
        if (projects) {
          const int64_t first = (d * batch.steps() + places[number]) * width;
          hidden = unprojected.mutable_data_ptr<T>() + first;
          step_rows[d].unprojected[places[number]] = hidden;
          hidden += unit;
        }
        cell_backward(
            z.at(unit / lanes, places[number]), c[number] + unit, c_before[number] + unit,
            d_hidden[number] + unit, dc[number] + unit, hidden);
      }
    }
    team.wait();
    multiply_rows(rows_of_dz(first_dz, dz.size()), w_hh[d], team, dh.data());
  }

  void finish() {
    const auto copy_units = [&](const std::vector<Real<T>*>& rows, Tensor& to, int64_t size) {
      const int64_t units = std::min(size, last_unit) - first_unit;
      for (int64_t number = 0; to.defined() && units > 0 && number < count; ++number) {
        const int64_t sequence = d * batch_size + batch.order[slice.ranks[number]];
        T* first = to.mutable_data_ptr<T>() + sequence * size + first_unit;
        std::copy_n(rows[number] + first_unit, units, first);
      }
    };
    copy_units(dh, d_h_0, size_h);
    copy_units(dc, d_c_0, hidden_size);
    for (int64_t number = team.begin(count); d_data.defined() && number < team.end(count); ++number) {
      batch.for_each_padding(slice.ranks[number], [&](int64_t row) {
        T* to = d_data.mutable_data_ptr<T>() + row * input_size;
        std::fill_n(to, input_size, T(0));
      });
    }
    is_finished = true;
  }
};

template <typename T>
Gradients backward_as(
    const Batch& batch, const Tensor& d_output, const Tensor& d_h_n, const Tensor& d_c_n,
    const Tensor& data, const Tensor& h_0, const Tensor& c_0, const std::vector<Weights>& weights,
    const Tensor& output, Tensor& gates, const Tensor& cells, bool needs_data) {
  const int64_t directions = weights.size(), hidden_size = weights[0].hidden_size();
  const int64_t size_h = weights[0].w_hh.size(1);
  const int64_t width = padded(hidden_size), input_size = data.size(-1), steps = batch.steps();
  const auto options = data.options();

  std::vector<Panels<T>> w_ih, w_hh, w_hr;
  std::vector<Weights> gradients(directions);
  for (int64_t d = 0; d < directions; ++d) {
    const auto& [weight_ih, weight_hh, b_ih, b_hh, weight_hr] = weights[d];
    const auto rows = [&](const Tensor& weight, int64_t size) {
      return gate_rows(weight.const_data_ptr<T>(), hidden_size, size);
    };
    w_hh.push_back(Panels<T>::of_rows(options, rows(weight_hh, size_h), size_h));
    gradients[d].w_ih = empty(weight_ih.sizes(), options);
    gradients[d].w_hh = empty(weight_hh.sizes(), options);
    gradients[d].b_ih = empty({kGates * hidden_size}, options);
    if (needs_data) {
      w_ih.push_back(Panels<T>::of_rows(options, rows(weight_ih, input_size), input_size));
    }
    if (weight_hr.defined()) {
      std::vector<const T*> projection;
      for (int64_t row = 0; row < size_h; ++row) {
        projection.push_back(weight_hr.const_data_ptr<T>() + row * hidden_size);
      }
      w_hr.push_back(Panels<T>::of_rows(options, projection, hidden_size));
      gradients[d].w_hr = empty(weight_hr.sizes(), options);
    }
  }

  Tensor d_h_0 = h_0.defined() ? empty(h_0.sizes(), options) : Tensor();
  Tensor d_c_0 = c_0.defined() ? empty(c_0.sizes(), options) : Tensor();
  std::vector<Tensor> d_data(directions);
  Tensor d_projected, unprojected;
  const int64_t projection_panels = w_hr.empty() ? 0 : count_panels<T>(size_h);
  for (int64_t d = 0; needs_data && d < directions; ++d) {
    d_data[d] = empty_in_huge_pages({batch.rows, input_size}, options);
  }
  if (projection_panels > 0) {
    d_projected = zeros({directions, projection_panels, steps, kWidth<T>}, options);
    unprojected = empty({directions, steps, width}, options);
  }
  std::vector<StepRows<T>> step_rows(directions, StepRows<T>(steps));
  const InitialH<T> initial_h(h_0, size_h);
  const auto task = [&](const Slice& slice, const Team& team) {
    return Backward<T>{
        {batch, data, c_0, weights, slice, team}, initial_h, d_output, d_h_n, d_c_n, output, cells,
        w_ih, w_hh, w_hr, gates, d_h_0, d_c_0, d_data[slice.direction], d_projected, unprojected,
        step_rows};
  };
  run_layer<T>(batch, directions, width, w_hh[0].bytes(), !w_hr.empty(), task);

  const T one = 1;  // the left side of the bias
  const std::vector<const T*> ones(steps, &one);
  std::vector<std::vector<T*>> rows;  // of gradients
  rows.reserve(directions * 4);
  std::vector<SumOverSteps<T>> sums;
  const auto sum = [&](const std::vector<Left<T>>& lefts, const T* panels, int64_t count) {
    int64_t left_size = 0;
    for (const Left<T>& left : lefts) {
      left_size += left.size;
    }
    const int64_t at_once = panels_of_task<T>(directions, count, left_size, steps);
    for (int64_t first = 0; first < count; first += at_once) {
      sums.push_back(
          {lefts, panels + first * steps * kWidth<T>, std::min(at_once, count - first), steps,
           cells.options()});
      for (Left<T>& left : sums.back().lefts) {
        left.rows += first * kWidth<T>;
      }
    }
  };
  for (int64_t d = 0; d < directions; ++d) {
    const auto left = [&](const std::vector<const T*>& first, Tensor& gradient, int64_t size) {
      rows.push_back(gate_rows(gradient.mutable_data_ptr<T>(), hidden_size, size));
      return Left<T>{first.data(), size, rows.back().data()};
    };
    sum({left(step_rows[d].x, gradients[d].w_ih, input_size),
         left(step_rows[d].h_before, gradients[d].w_hh, size_h), left(ones, gradients[d].b_ih, 1)},
        gates.const_data_ptr<T>() + d * gates.stride(0), width / kLanes<T>);
    if (projection_panels > 0) {
      rows.emplace_back(projection_panels * kWidth<T>);
      for (int64_t row = 0; row < size_h; ++row) {
        rows.back()[row] = gradients[d].w_hr.mutable_data_ptr<T>() + row * hidden_size;
      }
      sum({{step_rows[d].unprojected.data(), hidden_size, rows.back().data()}},
          d_projected.const_data_ptr<T>() + d * d_projected.stride(0), projection_panels);
    }
  }
  advance_all(sums);
  for (int64_t d = 0; d < directions; ++d) {
    if (weights[d].b_ih.defined()) {
      gradients[d].b_hh = gradients[d].b_ih.clone();  // its own: a caller may scale it in place
    } else {
      gradients[d].b_ih = Tensor();
    }
  }
  if (needs_data) {
    if (directions == 2) {
      d_data[0] += d_data[1];
    }
    d_data[0] = d_data[0].view(data.sizes());
  }
  return {d_data[0], d_h_0, d_c_0, gradients};
}

}  // namespace

Gradients backward(
    const Batch& batch, const Tensor& d_output, const Tensor& d_h_n, const Tensor& d_c_n,
    const Tensor& data, const Tensor& h_0, const Tensor& c_0, const std::vector<Weights>& weights,
    const Tensor& output, Tensor& gates, const Tensor& cells, bool needs_data) {
  const auto run = [&](auto zero) {
    return backward_as<decltype(zero)>(
        batch, d_output, d_h_n, d_c_n, data, h_0, c_0, weights, output, gates, cells, needs_data);
  };
  return with_dtype(data, run);
}

}  // namespace attnlstm
