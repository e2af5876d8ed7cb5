// The backward of a layer. With d for the gradient of the loss, from the last step read to the first:
//
//     dc_t = dc_t + dh_t * o_t * (1 - tanh(c_t)^2)
//     dz_t = (dc_t g i (1-i), dc_t c_{t-1} f (1-f), dc_t i (1-g^2), dh_t tanh(c_t) o (1-o))
//     dc_{t-1} = dc_t * f_t          dh_{t-1} = dz_t W_hh
//
// and afterwards one product over all steps for each weight, such as dW_hh = sum of dz_t h_{t-1}.

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "layer.h"
#include "tiles.h"

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

template <typename T>
struct Backward {
  const Batch& batch;
  const Tensor& d_output;  // undefined: zeros
  const Tensor &data, &h_0, &c_0, &output, &cells;
  const std::vector<Panels<T>>&w_ih, &w_hh, &w_hr;  // w_ih and w_hr may be empty
  Tensor& gates;                                    // come in as the gates, go out as dz
  Tensor &d_h, &d_c;                                // come in as the final, go out as the initial
  Tensor& d_data;                                   // [D, rows, F], undefined: not wanted
  Tensor &d_projected, &unprojected;                // undefined without projection
  std::vector<StepRows<T>>& step_rows;              // of each direction, written here

  void operator()(const Slice& slice) const {
    const ProductUnit<T> unit_of_products;
    constexpr int64_t lanes = kLanes<T>;
    const int64_t d = slice.direction, directions = h_0.size(0), batch_size = h_0.size(1);
    const int64_t hidden_size = c_0.size(2), width = padded(hidden_size), size_h = h_0.size(2);
    const int64_t count = slice.count(batch_size), steps = batch.steps();
    const int64_t input_size = data.size(-1);
    const bool projects = !w_hr.empty();
    const GatePanels<T> z{gates.mutable_data_ptr<T>() + d * gates.stride(0), steps};
    const Real<T>* c_rows = cells.const_data_ptr<Real<T>>() + d * cells.stride(0);
    const T* out = output.const_data_ptr<T>();

    const auto padded_rows = [&](const Tensor& from, int64_t size) {
      Tensor result = at::zeros({count, padded(size)}, cells.options());
      for (int64_t number = 0; number < count; ++number) {
        const int64_t sequence = d * batch_size + batch.order[slice.rank(number)];
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
    Tensor c_start = padded_rows(c_0, hidden_size);
    Tensor d_h_rows = padded_rows(d_h, size_h), d_c_rows = padded_rows(d_c, hidden_size);
    Tensor d_hidden_rows = projects ? at::zeros({count, width}, cells.options()) : d_h_rows;
    const std::vector<Real<T>*> dh = row_pointers(d_h_rows), dc = row_pointers(d_c_rows);
    const std::vector<Real<T>*> d_hidden = row_pointers(d_hidden_rows);
    const std::vector<Real<T>*> first_c = row_pointers(c_start);
    std::vector<const Real<T>*> c(count), c_before(count);
    std::vector<int64_t> places(count);

    const size_t chunk_steps =
        std::max<int64_t>(count, kChunkBytes / (kGates * width * int64_t(sizeof(T))));
    std::vector<const T*> dz;  // of the steps whose dx is still to be computed
    std::vector<T*> dx;
    const auto rows_of = [&](const std::vector<const T*>& first, size_t begin) {
      return Rows<T>{
          first.data() + begin, int64_t(first.size() - begin), kWidth<T>, z.panel_size()};
    };
    const auto finish_chunk = [&] {
      if (d_data.defined()) {
        multiply_rows(rows_of(dz, 0), w_ih[d], dx.data());
      }
      dz.clear();
      dx.clear();
    };

    for (int64_t k = batch.time() - 1; k >= 0; --k) {
      const int64_t t = batch.at(k, d), running = slice.count(batch.sizes[t]);
      const int64_t before = k > 0 ? batch.at(k - 1, d) : -1;
      const int64_t running_before = k > 0 ? slice.count(batch.sizes[before]) : 0;
      if (dz.size() + running > chunk_steps) {
        finish_chunk();
      }
      const size_t chunk_begin = dz.size();
      for (int64_t number = 0; number < running; ++number) {
        const int64_t rank = slice.rank(number), place = batch.place(t, rank);
        const int64_t row = batch.row(t, rank);
        places[number] = place;
        c[number] = c_rows + place * width;
        c_before[number] = first_c[number];
        const T* h_before =
            h_0.const_data_ptr<T>() + (d * batch_size + batch.order[rank]) * size_h;
        if (number < running_before) {
          c_before[number] = c_rows + batch.place(before, rank) * width;
          h_before = out + (batch.row(before, rank) * directions + d) * size_h;
        }
        step_rows[d].x[place] = data.const_data_ptr<T>() + row * input_size;
        step_rows[d].h_before[place] = h_before;
        dz.push_back(z.at(0, place));
        if (d_data.defined()) {
          dx.push_back(d_data.mutable_data_ptr<T>() + (d * batch.rows + row) * input_size);
        }
        if (d_output.defined()) {
          const T* from = d_output.const_data_ptr<T>() + (row * directions + d) * size_h;
          for (int64_t unit = 0; unit < size_h; unit += lanes) {
            store(load(dh[number] + unit) + load(from + unit, size_h - unit), dh[number] + unit);
          }
        }
      }
      if (projects) {
        for (int64_t number = 0; number < running; ++number) {
          for (int64_t unit = 0; unit < size_h; unit += lanes) {
            const int64_t panel = d * d_projected.size(1) + unit / kWidth<T>;
            T* to = d_projected.mutable_data_ptr<T>() + (panel * steps + places[number]) * kWidth<T>;
            store(load(dh[number] + unit), to + unit % kWidth<T>);
          }
        }
        if constexpr (std::is_same_v<T, Real<T>>) {
          multiply_rows(Rows<T>{dh.data(), running}, w_hr[d], d_hidden.data());
        }
      }
      for (int64_t unit = 0; unit < width; unit += lanes) {
        for (int64_t number = 0; number < running; ++number) {
          T* hidden = nullptr;
          if (projects) {
            hidden = unprojected.mutable_data_ptr<T>() + (d * steps + places[number]) * width;
            step_rows[d].unprojected[places[number]] = hidden;
            hidden += unit;
          }
          cell_backward(
              z.at(unit / lanes, places[number]), c[number] + unit, c_before[number] + unit,
              d_hidden[number] + unit, dc[number] + unit, hidden);
        }
      }
      multiply_rows(rows_of(dz, chunk_begin), w_hh[d], dh.data());
    }
    finish_chunk();
    for (int64_t number = 0; number < count; ++number) {
      const int64_t rank = slice.rank(number), sequence = d * batch_size + batch.order[rank];
      std::copy_n(dh[number], size_h, d_h.mutable_data_ptr<T>() + sequence * size_h);
      std::copy_n(dc[number], hidden_size, d_c.mutable_data_ptr<T>() + sequence * hidden_size);
      if (d_data.defined()) {
        batch.for_each_padding(rank, [&](int64_t row) {
          T* to = d_data.mutable_data_ptr<T>() + (d * batch.rows + row) * input_size;
          std::fill_n(to, input_size, T(0));
        });
      }
    }
  }
};

// So many bytes of the left sides, and of the sums, stay in the second-level cache.
constexpr int64_t kSumsBytes = 512 * 1024;

// So many steps at a time: as many as the first-level cache has room for in a panel, and more where
// to multiply is much faster than to read and write sums.
template <typename T>
constexpr int64_t kStepsAtOnce = kDepth<T>;
template <>
constexpr int64_t kStepsAtOnce<BFloat16> = 512;

// The sums over all steps of left[step]^T panel[step], [panel, left, 4 vectors], for `count`
// panels [step, 4 vectors] one after the other; the left sides are next to each other. Always in
// the same order, whatever the number of threads.
template <typename T>
Tensor sum_over_steps(
    const std::vector<Columns<T>>& lefts, const T* panels, int64_t count, int64_t steps,
    const at::TensorOptions& options) {
  const ProductUnit<T> unit_of_products;
  constexpr int64_t steps_at_once = kStepsAtOnce<T>;
  int64_t size = 0;
  for (const auto& left : lefts) {
    size += left.count;
  }
  Tensor sums = at::empty({count, size, kWidth<T>}, options);
  if (steps == 0) {
    sums.zero_();
  }
  const int64_t row_bytes = size * int64_t(sizeof(T));
  // bfloat16's left sides are copied for each group; to do so once is worth more than the cache.
  const int64_t group = kPack<T> > 1
      ? count : std::max<int64_t>(1, kSumsBytes / (row_bytes * kWidth<T>));
  const int64_t block = std::max<int64_t>(1, kSumsBytes / row_bytes / steps_at_once) * steps_at_once;
  for (int64_t first = 0; first < count; first += group) {
    for (int64_t block_begin = 0; block_begin < steps; block_begin += block) {
      const int64_t block_end = std::min(steps, block_begin + block);
      using Arranged = std::decay_t<decltype(arrange(lefts[0], 0))>;
      std::vector<Arranged> arranged;
      for (int64_t begin = block_begin; begin < block_end; begin += steps_at_once) {
        for (const auto& left : lefts) {
          arranged.push_back(arrange(
              Columns<T>{left.first + begin, left.count},
              std::min(block_end - begin, steps_at_once)));
        }
      }
      for (int64_t panel = first; panel < std::min(count, first + group); ++panel) {
        auto left = arranged.begin();
        for (int64_t begin = block_begin; begin < block_end; begin += steps_at_once) {
          const int64_t depth = std::min(block_end - begin, steps_at_once);
          const T* right = arrange_panel(panels + (panel * steps + begin) * kWidth<T>, depth);
          Real<T>* sum = sums.mutable_data_ptr<Real<T>>() + panel * size * kWidth<T>;
          for (size_t number = 0; number < lefts.size(); ++number, ++left) {
            multiply_panel<kGates>(
                *left, right, depth, [&](int64_t row, auto* products, int rows) {
                  Real<T>* to = sum + row * kWidth<T>;
                  for (int64_t n = 0; n < rows * kGates; ++n, to += kLanes<T>) {
                    store(begin == 0 ? products[0][n] : load(to) + products[0][n], to);
                  }
                });
            sum += left->count * kWidth<T>;
          }
        }
      }
    }
  }
  return sums;
}

// Sums [panel, left, 4 vectors] into rows of a weight's gradient, of which rows[0] is that of the
// first panel's first column; nullptr is padding.
template <typename T>
void store_sums(const Tensor& sums, int64_t first_left, int64_t size, T* const* rows) {
  constexpr int64_t block = 64;  // rows of sums, which stay in the first-level cache
  for (int64_t panel = 0; panel < sums.size(0); ++panel) {
    const Real<T>* from =
        sums.const_data_ptr<Real<T>>() + (panel * sums.size(1) + first_left) * kWidth<T>;
    for (int64_t begin = 0; begin < size; begin += block) {
      for (int64_t column = 0; column < kWidth<T>; ++column) {
        T* to = rows[panel * kWidth<T> + column];
        for (int64_t k = begin; to && k < std::min(size, begin + block); ++k) {
          to[k] = from[k * kWidth<T> + column];
        }
      }
    }
  }
}

// Calls work(direction, begin, end) for ranges of panels.
template <typename Work>
void for_each_range(int64_t directions, int64_t panels, Work work) {
  at::parallel_for(0, directions * panels, 1, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t d = begin / panels, stop = std::min(end, (d + 1) * panels);
      work(d, begin - d * panels, stop - d * panels);
      begin = stop;
    }
  });
}

template <typename T>
Gradients backward_as(
    const Batch& batch, const Tensor& d_output, const Tensor& d_h_n, const Tensor& d_c_n,
    const Tensor& data, const Tensor& h_0, const Tensor& c_0, const std::vector<Weights>& weights,
    const Tensor& output, Tensor& gates, const Tensor& cells, bool needs_data) {
  const int64_t directions = c_0.size(0), hidden_size = c_0.size(2), size_h = h_0.size(2);
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
    gradients[d].w_ih = at::empty_like(weight_ih);
    gradients[d].w_hh = at::empty_like(weight_hh);
    gradients[d].b_ih = at::empty({kGates * hidden_size}, options);
    if (needs_data) {
      w_ih.push_back(Panels<T>::of_rows(options, rows(weight_ih, input_size), input_size));
    }
    if (weight_hr.defined()) {
      std::vector<const T*> projection;
      for (int64_t row = 0; row < size_h; ++row) {
        projection.push_back(weight_hr.const_data_ptr<T>() + row * hidden_size);
      }
      w_hr.push_back(Panels<T>::of_rows(options, projection, hidden_size));
      gradients[d].w_hr = at::empty_like(weight_hr);
    }
  }

  Tensor d_h = d_h_n.defined() ? d_h_n.clone() : at::zeros_like(h_0);
  Tensor d_c = d_c_n.defined() ? d_c_n.clone() : at::zeros_like(c_0);
  Tensor d_data, d_projected, unprojected;
  const int64_t projection_panels = w_hr.empty() ? 0 : (size_h + kWidth<T> - 1) / kWidth<T>;
  if (needs_data) {
    d_data = empty_in_huge_pages({directions, batch.rows, input_size}, options);
  }
  if (projection_panels > 0) {
    d_projected = at::zeros({directions, projection_panels, steps, kWidth<T>}, options);
    unprojected = at::empty({directions, steps, width}, options);
  }
  std::vector<StepRows<T>> step_rows(directions, StepRows<T>(steps));
  for_each_slice(
      directions, h_0.size(1),
      Backward<T>{
          batch, d_output, data, h_0, c_0, output, cells, w_ih, w_hh, w_hr, gates, d_h, d_c, d_data,
          d_projected, unprojected, step_rows});

  const T one = 1;  // the left side of the bias
  const std::vector<const T*> ones(steps, &one);
  for_each_range(directions, width / kLanes<T>, [&](int64_t d, int64_t begin, int64_t end) {
    const T* panels = gates.const_data_ptr<T>() + d * gates.stride(0) + begin * steps * kWidth<T>;
    const Tensor sums = sum_over_steps<T>(
        {{step_rows[d].x.data(), input_size}, {step_rows[d].h_before.data(), size_h},
         {ones.data(), 1}},
        panels, end - begin, steps, cells.options());
    int64_t left = 0;
    const auto store_gradient = [&](Tensor& gradient, int64_t size) {
      const auto rows = gate_rows(gradient.mutable_data_ptr<T>(), hidden_size, size);
      store_sums(sums, left, size, rows.data() + begin * kWidth<T>);
      left += size;
    };
    store_gradient(gradients[d].w_ih, input_size);
    store_gradient(gradients[d].w_hh, size_h);
    store_gradient(gradients[d].b_ih, 1);
  });
  for_each_range(directions, projection_panels, [&](int64_t d, int64_t begin, int64_t end) {
    const T* panels = d_projected.const_data_ptr<T>() + d * d_projected.stride(0) +
                      begin * steps * kWidth<T>;
    const Tensor sums = sum_over_steps<T>(
        {{step_rows[d].unprojected.data(), width}}, panels, end - begin, steps, cells.options());
    std::vector<T*> rows(end * kWidth<T>);
    for (int64_t row = 0; row < std::min<int64_t>(rows.size(), size_h); ++row) {
      rows[row] = gradients[d].w_hr.mutable_data_ptr<T>() + row * hidden_size;
    }
    store_sums(sums, 0, hidden_size, rows.data() + begin * kWidth<T>);
  });
  for (int64_t d = 0; d < directions; ++d) {
    if (weights[d].b_ih.defined()) {
      gradients[d].b_hh = gradients[d].b_ih.clone();  // its own: a caller may scale it in place
    } else {
      gradients[d].b_ih = Tensor();
    }
  }
  if (needs_data) {
    d_data = (directions == 1 ? d_data[0] : d_data.sum(0)).view(data.sizes());
  } else {
    d_data = at::empty({0}, options);
  }
  return {d_data, d_h, d_c, gradients};
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
