// The forward of a layer; layer.h has the formulas.
//
// A slice advances by chunks of time steps. For each chunk it first computes W_ih x of all steps in one
// product, because these do not depend on each other. Then it goes through the steps one by one: it adds
// W_hh h_{t-1} and the bias, and applies the activations. Small W_ih and W_hh are instead multiplied as
// one matrix, step by step.

#include "layer.h"
#include "tiles.h"

namespace attnlstm {
namespace {

// The largest size of W_ih and W_hh together with which they stay in the second-level cache.
constexpr int64_t kJoinedWeightBytes = 1024 * 1024;
// The largest number of input features, as a multiple of the sequences that run at a time step, with
// which joined products pay off.
constexpr int64_t kJoinedInputs = 16;

// What the slices of a forward share: the packed weights, and the results that they write.
template <typename T>
struct ForwardShared {
  InitialH<T> h_0;
  std::vector<Panels<T>> w;     // for each direction, W_ih above W_hh
  std::vector<Panels<T>> w_hr;  // for each direction, empty without projection
  Tensor bias;                  // [D, 4 * padded H]: b_ih + b_hh, or zeros
  bool keep;                    // for the backward
  LayerOutputs results;

  ForwardShared(const Batch& batch, const LayerInputs& inputs, bool keep)
      : h_0(inputs.h_0, inputs.size_h()), keep(keep) {
    const int64_t directions = inputs.directions(), hidden_size = inputs.hidden_size();
    const int64_t input_size = inputs.input_size(), size_h = inputs.size_h();
    const int64_t batch_size = batch.order.size(), width = inputs.width();
    const auto options = inputs.data.options();
    const auto real_options = options.dtype(c10::CppTypeToScalarType<Real<T>>());

    bias = zeros({directions, kGates * width}, real_options);
    Real<T>* sum = bias.template mutable_data_ptr<Real<T>>();
    for (const Weights& weights : inputs.weights) {
      const auto rows = [&](const Tensor& weight, int64_t size) {
        return gate_rows(weight.const_data_ptr<T>(), hidden_size, size);
      };
      w.push_back(Panels<T>::of_columns(
          options,
          {{input_size, rows(weights.w_ih, input_size)}, {size_h, rows(weights.w_hh, size_h)}}));
      if (weights.w_hr.defined()) {
        const T* first = weights.w_hr.const_data_ptr<T>();
        w_hr.push_back(Panels<T>::of_columns(
            options, {{hidden_size, row_pointers(first, size_h, hidden_size)}}));
      }
      if (weights.b_ih.defined()) {
        const auto b_ih = rows(weights.b_ih, 1), b_hh = rows(weights.b_hh, 1);
        for (int64_t place = 0; place < kGates * width; ++place) {
          if (b_ih[place]) {
            sum[place] = Real<T>(*b_ih[place]) + Real<T>(*b_hh[place]);
          }
        }
      }
      sum += kGates * width;
    }

    std::vector<int64_t> sizes = inputs.data.sizes().vec();
    sizes.back() = directions * size_h;
    const int64_t kept = keep ? batch.steps() : 0;
    KeptMemory& memory = KeptMemory::instance();
    results.saved = {
        .output = empty_in_huge_pages(sizes, options),
        .gates = memory.empty({directions, kept, kGates * width}, options),
        .cells = memory.empty({directions, kept, width}, real_options)};
    results.h_n = empty({directions, batch_size, size_h}, options);
    results.c_n = empty({directions, batch_size, hidden_size}, options);
  }
};

// A slice on its way through the time steps.
template <typename T>
struct Forward : SliceTask {
  ForwardShared<T>& shared;

  const Panels<T>& w = shared.w[d];
  Panels<T> w_ih = w.part(0, input_size), w_hh = w.part(input_size, size_h);
  const Real<T>* b = shared.bias.template const_data_ptr<Real<T>>() + d * kGates * width;
  Tensor &output = shared.results.saved.output, &gates = shared.results.saved.gates;
  Tensor &cells = shared.results.saved.cells;
  Tensor &h_n = shared.results.h_n, &c_n = shared.results.c_n;
  bool keep = shared.keep, projects = inputs.projects();
  int64_t k = 0;  // the number of time steps that are done

  // Where the newest h and c of each sequence are: first a copy of c_0, later in the results.
  std::vector<const T*> h;
  std::vector<Real<T>*> c, new_c;
  std::vector<T*> new_h, unprojected;
  Tensor c_rows, unprojected_rows;

  int64_t chunk_steps = steps_of_chunk(
      kGates * width * int64_t(sizeof(Real<T>)) / team.members, count, steps_left);
  GatePanels<T> kept{gates.mutable_data_ptr<T>() + d * gates.stride(0), batch.steps()};
  // Pre-activations are written where the gates will be kept, unless these are rounded or not kept.
  bool in_place = keep && std::is_same_v<T, Real<T>>;
  Tensor chunk;
  GatePanels<Real<T>> z{reinterpret_cast<Real<T>*>(kept.first), kept.steps};
  std::vector<const T*> x;           // the inputs of a chunk
  std::vector<int64_t> places;       // of a chunk's steps in z
  std::vector<int64_t> kept_places;  // of one time step's sequences in `kept`

  void advance() {
    const ProductUnit<T> unit_of_products;
    if (h.empty()) {
      begin();
    }
    const int64_t end = begin_chunk();
    const bool joins = joins_products(end - k);
    if (!joins) {
      project_inputs();
    }
    steps_left -= places.size();
    for (int64_t first = 0; k < end; ++k) {
      first += step(first, joins);
    }
    if (steps_left == 0) {
      finish();
    }
  }

 private:
  void begin() {
    h.resize(count);
    new_h.resize(count);
    new_c.resize(count);
    kept_places.resize(count);
    c_rows = zeros({count, width}, cells.options());
    c = row_pointers(c_rows.mutable_data_ptr<Real<T>>(), count, width);
    for (int64_t number = 0; number < count; ++number) {
      h[number] = shared.h_0.row(state_row(number));
      if (inputs.c_0.defined()) {
        const T* from = inputs.c_0.const_data_ptr<T>() + state_row(number) * hidden_size;
        std::copy_n(from, hidden_size, c[number]);
      }
    }
    if (!in_place) {
      chunk = empty({chunk_steps, kGates * width}, cells.options());
      z = {chunk.mutable_data_ptr<Real<T>>(), chunk_steps};
    }
    if (projects) {
      unprojected_rows = empty({count, width}, inputs.data.options());
      unprojected = row_pointers(unprojected_rows.mutable_data_ptr<T>(), count, width);
    }
  }

  // Collects the next time steps, as many as fit into a chunk, and returns the end of their range.
  int64_t begin_chunk() {
    x.clear();
    places.clear();
    int64_t next = k;
    for (; next < batch.time(); ++next) {
      const int64_t t = batch.at(next, d), running = slice.count(batch.sizes[t]);
      if (static_cast<int64_t>(x.size()) + running > chunk_steps) {
        break;
      }
      for (int64_t number = 0; number < running; ++number) {
        const int64_t rank = slice.ranks[number];
        places.push_back(in_place ? batch.place(t, rank) : static_cast<int64_t>(x.size()));
        x.push_back(inputs.data.const_data_ptr<T>() + batch.row(t, rank) * input_size);
      }
    }
    return next;
  }

  // Whether a chunk of this many time steps multiplies W_ih x and W_hh h as one product. This avoids
  // writing and reading W_ih x, but reads W_ih at every step.
  bool joins_products(int64_t time) const {
    return std::is_same_v<T, Real<T>> && w.bytes() <= kJoinedWeightBytes * team.members &&
           int64_t(places.size()) * kJoinedInputs >= time * input_size;
  }

  // Computes W_ih x of a chunk.
  void project_inputs() {
    multiply_gates(
        Rows<T>{x.data(), int64_t(x.size())}, w_ih, team, Zeros(),
        [&](int64_t row, int64_t panel, auto& sums) {
          Real<T>* to = z.at(panel, places[row]);
          for (int64_t gate = 0; gate < kGates; ++gate) {
            store(sums[gate], to + gate * kLanes<T>);
          }
        });
  }

  // Runs the next time step, whose inputs begin at `first` in the chunk. Returns the number of its
  // sequences.
  int64_t step(int64_t first, bool joins) {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t t = batch.at(k, d), running = slice.count(batch.sizes[t]);
    for (int64_t number = 0; number < running; ++number) {
      const int64_t rank = slice.ranks[number];
      kept_places[number] = batch.place(t, rank);
      new_h[number] = output.mutable_data_ptr<T>() + output_offset(batch.row(t, rank));
      new_c[number] =
          keep ? cells.mutable_data_ptr<Real<T>>() + (d * batch.steps() + kept_places[number]) * width
               : c[number];
    }
    const auto cell = [&, b = b, kept = kept, keep = keep](int64_t row, int64_t panel, auto& sums) {
      const int64_t unit = panel * lanes;
      // The bias comes last, because a sum that begins with it has a larger rounding error.
      for (int64_t gate = 0; gate < kGates; ++gate) {
        sums[gate] += load(b + panel * kWidth<T> + gate * lanes);
      }
      if (hidden_size - unit < lanes) {  // the padding: 0 times an infinite input is not 0
        for (Vector<T>& gate : sums) {
          gate = first_lanes<T>(gate, hidden_size - unit);
        }
      }
      activate(sums);
      if (keep) {
        T* to = kept.at(panel, kept_places[row]);
        for (int64_t gate = 0; gate < kGates; ++gate) {
          store(sums[gate], to + gate * lanes);
        }
      }
      const auto& [i, f, g, o] = sums;
      const Vector<T> c_t = f * load(c[row] + unit) + i * g;
      store(c_t, new_c[row] + unit);
      const Vector<T> h_t = o * tanh(c_t);
      if (projects) {
        store(h_t, unprojected[row] + unit);
      } else {
        store(h_t, new_h[row] + unit, hidden_size - unit);
      }
    };
    if constexpr (std::is_same_v<T, Real<T>>) {
      if (joins) {
        multiply_gates(
            JoinedRows<T>{x.data() + first, h.data(), input_size, running}, w, team, Zeros(), cell);
      }
    }
    if (!joins) {
      multiply_gates(
          Rows<T>{h.data(), running}, w_hh, team,
          [place = places.data() + first, z = z](int64_t row, int64_t panel) {
            return z.at(panel, place[row]);
          },
          cell);
    }
    if (projects) {
      multiply_rows(Rows<T>{unprojected.data(), running}, shared.w_hr[d], Team(), new_h.data());
    }
    team.wait();
    std::copy_n(new_h.begin(), running, h.begin());
    std::copy_n(new_c.begin(), running, c.begin());
    return running;
  }

  // Writes the final states and zeros on the padding.
  void finish() {
    const int64_t panels = width / kLanes<T>;
    const int64_t unit = team.begin(panels) * kLanes<T>;
    const int64_t units = std::min(hidden_size, team.end(panels) * kLanes<T>) - unit;
    for (int64_t number = 0; units > 0 && number < count; ++number) {
      T* to = c_n.mutable_data_ptr<T>() + state_row(number) * hidden_size + unit;
      std::copy_n(c[number] + unit, units, to);
    }
    for (int64_t number = team.begin(count); number < team.end(count); ++number) {
      std::copy_n(h[number], size_h, h_n.mutable_data_ptr<T>() + state_row(number) * size_h);
      batch.for_each_padding(slice.ranks[number], [&](int64_t row) {
        std::fill_n(output.mutable_data_ptr<T>() + output_offset(row), size_h, T(0));
      });
    }
    is_finished = true;
  }
};

}  // namespace

LayerOutputs forward(const Batch& batch, const LayerInputs& inputs, bool keep) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    ForwardShared<T> shared(batch, inputs, keep);
    const auto task = [&](const Slice& slice, const Team& team) {
      return Forward<T>{{batch, inputs, slice, team}, shared};
    };
    const int64_t weight_bytes = shared.w[0].part(inputs.input_size(), inputs.size_h()).bytes();
    run_layer<T>(batch, inputs, weight_bytes, task);
    return shared.results;
  };
  return with_dtype(inputs.data, run);
}

}  // namespace attnlstm
