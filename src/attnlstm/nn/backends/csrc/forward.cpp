// The forward of a layer.

#include "layer.h"
#include "tiles.h"

namespace attnlstm {
namespace {

// Of W_ih and W_hh together: they stay in the second-level cache.
constexpr int64_t kJoinedWeightBytes = 1024 * 1024;
// So many times the sequences of a time step are the most inputs that are multiplied step by step.
constexpr int64_t kJoinedInputs = 16;

// A slice's way through the time steps.
template <typename T>
struct Forward : SliceTask {
  const InitialH<T>& h_0;
  const std::vector<Panels<T>>&w, &w_hr;  // of each direction: W_ih above W_hh; w_hr may be empty
  const Tensor& bias;                     // [D, 4 * padded H]
  bool keep;                              // for the backward
  Tensor &output, &h_n, &c_n, &gates, &cells;

  bool projects = !w_hr.empty();
  Panels<T> w_ih = w[d].part(0, input_size), w_hh = w[d].part(input_size, size_h);
  const Real<T>* b = bias.const_data_ptr<Real<T>>() + d * kGates * width;
  int64_t k = 0;  // time steps are behind

  // Where the newest h and c of each sequence are: at first a copy of c_0, later in the results.
  std::vector<const T*> h;
  std::vector<Real<T>*> c, new_c;
  std::vector<T*> new_h, unprojected;
  Tensor c_rows, unprojected_rows;

  int64_t chunk_steps = steps_of_chunk(
      kGates * width * int64_t(sizeof(Real<T>)) / team.members, count, steps_left);
  GatePanels<T> kept{gates.mutable_data_ptr<T>() + d * gates.stride(0), batch.steps()};
  // The pre-activations are where the gates will be kept, unless these are rounded or not kept.
  bool in_place = keep && std::is_same_v<T, Real<T>>;
  Tensor chunk;
  GatePanels<Real<T>> z{reinterpret_cast<Real<T>*>(kept.first), kept.steps};
  std::vector<const T*> inputs;
  std::vector<int64_t> places, kept_places;  // of a chunk in z, of a time step in `kept`

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
    c.resize(count);
    new_h.resize(count);
    new_c.resize(count);
    kept_places.resize(count);
    c_rows = zeros({count, width}, cells.options());
    for (int64_t number = 0; number < count; ++number) {
      const int64_t sequence = d * batch_size + batch.order[slice.ranks[number]];
      h[number] = h_0.of(sequence);
      c[number] = c_rows.mutable_data_ptr<Real<T>>() + number * width;
      if (c_0.defined()) {
        std::copy_n(c_0.const_data_ptr<T>() + sequence * hidden_size, hidden_size, c[number]);
      }
    }
    if (!in_place) {
      chunk = empty({chunk_steps, kGates * width}, cells.options());
      z = {chunk.mutable_data_ptr<Real<T>>(), chunk_steps};
    }
    if (projects) {
      unprojected_rows = empty({count, width}, data.options());
      for (int64_t number = 0; number < count; ++number) {
        unprojected.push_back(unprojected_rows.mutable_data_ptr<T>() + number * width);
      }
    }
  }

  // The next time steps, up to the one returned: as many as fit in a chunk.
  int64_t begin_chunk() {
    inputs.clear();
    places.clear();
    int64_t next = k;
    for (; next < batch.time(); ++next) {
      const int64_t t = batch.at(next, d), running = slice.count(batch.sizes[t]);
      if (static_cast<int64_t>(inputs.size()) + running > chunk_steps) {
        break;
      }
      for (int64_t number = 0; number < running; ++number) {
        const int64_t rank = slice.ranks[number];
        places.push_back(in_place ? batch.place(t, rank) : static_cast<int64_t>(inputs.size()));
        inputs.push_back(data.const_data_ptr<T>() + batch.row(t, rank) * input_size);
      }
    }
    return next;
  }

  // Whether a chunk's time steps multiply W_ih x and W_hh h as one product. That saves to write and
  // read W_ih x, but reads W_ih at every step.
  bool joins_products(int64_t time) const {
    return std::is_same_v<T, Real<T>> && w[d].bytes() <= kJoinedWeightBytes * team.members &&
           int64_t(places.size()) * kJoinedInputs >= time * input_size;
  }

  // W_ih x of a chunk.
  void project_inputs() {
    multiply_gates(
        Rows<T>{inputs.data(), int64_t(inputs.size())}, w_ih, team, Zeros(),
        [&](int64_t row, int64_t panel, auto& sums) {
          Real<T>* to = z.at(panel, places[row]);
          for (int64_t gate = 0; gate < kGates; ++gate) {
            store(sums[gate], to + gate * kLanes<T>);
          }
        });
  }

  // The next time step, whose inputs are from `first` on in the chunk; the number of its sequences.
  int64_t step(int64_t first, bool joins) {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t t = batch.at(k, d), running = slice.count(batch.sizes[t]);
    for (int64_t number = 0; number < running; ++number) {
      const int64_t rank = slice.ranks[number];
      kept_places[number] = batch.place(t, rank);
      new_h[number] = output.mutable_data_ptr<T>() + (batch.row(t, rank) * directions + d) * size_h;
      new_c[number] =
          keep ? cells.mutable_data_ptr<Real<T>>() + (d * batch.steps() + kept_places[number]) * width
               : c[number];
    }
    const auto cell = [&, b = b, kept = kept, keep = keep](int64_t row, int64_t panel, auto& sums) {
      const int64_t unit = panel * lanes;
      for (int64_t gate = 0; gate < kGates; ++gate) {  // last: a sum that begins with it rounds more
        sums[gate] += load(b + panel * kWidth<T> + gate * lanes);
      }
      if (hidden_size - unit < lanes) {  // 0 times an infinite input is not 0
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
            JoinedRows<T>{inputs.data() + first, h.data(), input_size, running}, w[d], team,
            Zeros(), cell);
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
      multiply_rows(Rows<T>{unprojected.data(), running}, w_hr[d], Team(), new_h.data());
    }
    team.wait();
    std::copy_n(new_h.begin(), running, h.begin());
    std::copy_n(new_c.begin(), running, c.begin());
    return running;
  }

  void finish() {
    const int64_t panels = width / kLanes<T>;
    const int64_t unit = team.begin(panels) * kLanes<T>;
    const int64_t units = std::min(hidden_size, team.end(panels) * kLanes<T>) - unit;
    for (int64_t number = 0; units > 0 && number < count; ++number) {
      const int64_t sequence = d * batch_size + batch.order[slice.ranks[number]];
      T* to = c_n.mutable_data_ptr<T>() + sequence * hidden_size + unit;
      std::copy_n(c[number] + unit, units, to);
    }
    for (int64_t number = team.begin(count); number < team.end(count); ++number) {
      const int64_t rank = slice.ranks[number], sequence = d * batch_size + batch.order[rank];
      std::copy_n(h[number], size_h, h_n.mutable_data_ptr<T>() + sequence * size_h);
      batch.for_each_padding(rank, [&](int64_t row) {
        T* to = output.mutable_data_ptr<T>() + (row * directions + d) * size_h;
        std::fill_n(to, size_h, T(0));
      });
    }
    is_finished = true;
  }
};

template <typename T>
Result forward_as(
    const Batch& batch, const Tensor& data, const Tensor& h_0, const Tensor& c_0,
    const std::vector<Weights>& weights, bool keep) {
  const int64_t directions = weights.size(), hidden_size = weights[0].hidden_size();
  const int64_t batch_size = batch.order.size(), size_h = weights[0].w_hh.size(1);
  const int64_t width = padded(hidden_size), input_size = data.size(-1);
  const auto options = data.options();

  std::vector<Panels<T>> w, w_hr;
  const auto real_options = options.dtype(c10::CppTypeToScalarType<Real<T>>());
  Tensor bias = zeros({directions, kGates * width}, real_options);
  for (int64_t d = 0; d < directions; ++d) {
    const auto rows = [&](const Tensor& weight, int64_t size) {
      return gate_rows(weight.const_data_ptr<T>(), hidden_size, size);
    };
    w.push_back(Panels<T>::of_columns(
        options, {{input_size, rows(weights[d].w_ih, input_size)},
                  {size_h, rows(weights[d].w_hh, size_h)}}));
    if (weights[d].w_hr.defined()) {
      std::vector<const T*> projection;
      for (int64_t row = 0; row < size_h; ++row) {
        projection.push_back(weights[d].w_hr.const_data_ptr<T>() + row * hidden_size);
      }
      w_hr.push_back(Panels<T>::of_columns(options, {{hidden_size, projection}}));
    }
    if (weights[d].b_ih.defined()) {
      const auto b_ih = rows(weights[d].b_ih, 1), b_hh = rows(weights[d].b_hh, 1);
      for (int64_t place = 0; place < kGates * width; ++place) {
        if (b_ih[place]) {
          bias.mutable_data_ptr<Real<T>>()[d * kGates * width + place] =
              Real<T>(*b_ih[place]) + Real<T>(*b_hh[place]);
        }
      }
    }
  }

  std::vector<int64_t> sizes = data.sizes().vec();
  sizes.back() = directions * size_h;
  Tensor output = empty_in_huge_pages(sizes, options);
  Tensor h_n = empty({directions, batch_size, size_h}, options);
  Tensor c_n = empty({directions, batch_size, hidden_size}, options);
  const int64_t kept = keep ? batch.steps() : 0;
  Tensor gates = KeptMemory::instance().empty({directions, kept, kGates * width}, options);
  Tensor cells = KeptMemory::instance().empty({directions, kept, width}, real_options);
  const InitialH<T> initial_h(h_0, size_h);
  const auto task = [&](const Slice& slice, const Team& team) {
    return Forward<T>{
        {batch, data, c_0, weights, slice, team}, initial_h, w, w_hr, bias, keep, output, h_n,
        c_n, gates, cells};
  };
  const int64_t weight_bytes = w[0].part(input_size, size_h).bytes();
  run_layer<T>(batch, directions, width, weight_bytes, !w_hr.empty(), task);
  return {output, h_n, c_n, gates, cells};
}

}  // namespace

Result forward(
    const Batch& batch, const Tensor& data, const Tensor& h_0, const Tensor& c_0,
    const std::vector<Weights>& weights, bool keep) {
  const auto run = [&](auto zero) {
    return forward_as<decltype(zero)>(batch, data, h_0, c_0, weights, keep);
  };
  return with_dtype(data, run);
}

}  // namespace attnlstm
