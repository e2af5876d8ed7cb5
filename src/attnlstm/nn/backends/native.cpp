// The recurrence of one LSTM layer over a packed batch, forward and backward.
//
// Shape letters as in cell.py: B batch, N real steps of all sequences, F input features, H hidden
// size, P size of h (H without projection), D directions.
//
//     z_t = W_ih x_t + b + W_hh h_{t-1}        i, f, o = sigmoid(z),  g = tanh(z)
//     c_t = f_t * c_{t-1} + i_t * g_t          h_t = o_t * tanh(c_t)  (W_hr times that)
//
// Parallelism: each thread takes one direction and a slice of the sequences, and runs all time
// steps of its slice. Sequences do not see each other, so that the threads never wait for another.
// The sequences are sorted by falling length; dealing them out in turn gives every slice as many
// long ones.

#include <ATen/Parallel.h>
#include <torch/library.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using at::Tensor;
constexpr int64_t kGates = 4;

// Hidden sizes are padded with zeros to a multiple of this, for every instruction set alike: the
// tensors that are kept for the backward have then the same shape on every machine.
constexpr int64_t kPadding = 16;

int64_t padded(int64_t size) { return (size + kPadding - 1) / kPadding * kPadding; }

// ---------------------------------------------------------------------------------------------
// Vectors, as GCC and Clang have them in the language: arithmetic on all lanes at once.
// ---------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64;
constexpr int kRows = 6;  // of a product at a time: 6 * 4 sums and 5 operands fill 32 registers
#elif defined(__AVX__)
constexpr int64_t kVectorBytes = 32;
constexpr int kRows = 2;  // 16 registers
#else
constexpr int64_t kVectorBytes = 16;
constexpr int kRows = 2;
#endif

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vector = typename VectorOf<T>::type;

template <typename T>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

template <typename T>
inline Vector<T> load(const T* from) {
  Vector<T> values;
  std::memcpy(&values, from, kVectorBytes);
  return values;
}

template <typename T>
inline void store(const Vector<T>& values, T* to) {
  std::memcpy(to, &values, kVectorBytes);
}

// As many elements as there are, at most a vector; the others are 0.
template <typename T>
inline Vector<T> load(const T* from, int64_t rest) {
  if (rest >= kLanes<T>) {
    return load(from);
  }
  Vector<T> values = {};
  std::memcpy(&values, from, rest * sizeof(T));
  return values;
}

template <typename T>
inline void store(const Vector<T>& values, T* to, int64_t rest) {
  if (rest >= kLanes<T>) {
    store(values, to);
  } else if (rest > 0) {
    std::memcpy(to, &values, rest * sizeof(T));
  }
}

// Calls work(0), work(1), ... with numbers that the compiler knows. Only so does it keep an array
// of vectors in registers: one that a loop indexes, even an unrolled loop, it keeps in memory.
template <typename Work, int... I>
[[gnu::always_inline]] inline void unroll(std::integer_sequence<int, I...>, Work& work) {
  (work(std::integral_constant<int, I>()), ...);
}

template <int Count, typename Work>
[[gnu::always_inline]] inline void unroll(Work work) {
  unroll(std::make_integer_sequence<int, Count>(), work);
}

// ---------------------------------------------------------------------------------------------
// Activations
// ---------------------------------------------------------------------------------------------

// tanh(x) = x p(x^2) / q(x^2), the rational approximation of Eigen and XLA, within 4e-7 of it.
// Numerator and denominator come apart so that several tanh can share one slow division.
struct Fraction {
  Vector<float> numerator, denominator;
};

inline Fraction tanh_fraction(Vector<float> x) {
  constexpr float bound = 7.90531110763549805f;
  x = x > bound ? Vector<float>{} + bound : x;
  x = x < -bound ? Vector<float>{} - bound : x;
  const Vector<float> y = x * x;
  Vector<float> p = y * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * y - 8.60467152213735e-11f;
  p = p * y + 5.12229709037114e-08f;
  p = p * y + 1.48572235717979e-05f;
  p = p * y + 6.37261928875436e-04f;
  p = p * y + 4.89352455891786e-03f;
  Vector<float> q = y * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * y + 2.26843463243900e-03f;
  q = q * y + 4.89352518554385e-03f;
  return {x * p, q};
}

inline Vector<float> tanh(Vector<float> x) {
  const Fraction t = tanh_fraction(x);
  return t.numerator / t.denominator;
}

inline Vector<double> tanh(Vector<double> x) {
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = std::tanh(x[lane]);
  }
  return x;
}

// The gates in place: sigmoid of i, f and o as (1 + tanh(z / 2)) / 2, tanh of g.
inline void activate(Vector<float> (&z)[kGates]) {
  const Fraction i = tanh_fraction(z[0] * 0.5f);
  const Fraction f = tanh_fraction(z[1] * 0.5f);
  const Fraction g = tanh_fraction(z[2]);
  const Fraction o = tanh_fraction(z[3] * 0.5f);
  // One division for all four: 1 / a = b / (a b).
  const Vector<float> i_f = i.denominator * f.denominator;
  const Vector<float> g_o = g.denominator * o.denominator;
  const Vector<float> inverse = 1.f / (i_f * g_o);
  const Vector<float> inverse_i_f = inverse * g_o;
  const Vector<float> inverse_g_o = inverse * i_f;
  z[0] = i.numerator * f.denominator * inverse_i_f * 0.5f + 0.5f;
  z[1] = f.numerator * i.denominator * inverse_i_f * 0.5f + 0.5f;
  z[2] = g.numerator * o.denominator * inverse_g_o;
  z[3] = o.numerator * g.denominator * inverse_g_o * 0.5f + 0.5f;
}

inline void activate(Vector<double> (&z)[kGates]) {
  for (const int gate : {0, 1, 3}) {
    z[gate] = tanh(z[gate] * 0.5) * 0.5 + 0.5;
  }
  z[2] = tanh(z[2]);
}

// ---------------------------------------------------------------------------------------------
// Products of a few rows and a matrix
// ---------------------------------------------------------------------------------------------

// A matrix [depth, columns] in panels of four vectors' width, [panel, depth, 4 vectors], padded
// with zeros: a product reads it from front to back.
template <typename T>
struct Panels {
  static constexpr int64_t kWidth = kGates * kLanes<T>;

  int64_t depth, columns;
  Tensor storage;

  // `element(k, column)` is the matrix.
  template <typename Element>
  Panels(const at::TensorOptions& options, int64_t depth, int64_t columns, Element element)
      : depth(depth), columns(columns), storage(at::empty({count(), depth, kWidth}, options)) {
    T* out = storage.mutable_data_ptr<T>();
    at::parallel_for(0, count(), 1 + 16384 / (depth * kWidth), [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        for (int64_t k = 0; k < depth; ++k) {
          T* row = out + (panel * depth + k) * kWidth;
          for (int64_t column = 0; column < kWidth; ++column) {
            const int64_t j = panel * kWidth + column;
            row[column] = j < columns ? element(k, j) : T(0);
          }
        }
      }
    });
  }

  int64_t count() const { return (columns + kWidth - 1) / kWidth; }
  const T* panel(int64_t number) const {
    return storage.const_data_ptr<T>() + number * depth * kWidth;
  }
  int64_t vectors(int64_t panel) const {
    const int64_t rest = columns - panel * kWidth;
    return rest >= kWidth ? kGates : (rest + kLanes<T> - 1) / kLanes<T>;
  }
};

// sums[m][n] += rows[m][k] panel[k][n], over all k.
template <int M, int N, typename T>
inline void multiply(
    const T* const* rows, int64_t depth, const T* panel, Vector<T> (&sums)[M][N]) {
  const T* row[M];
  Vector<T> local[M][N], right[N];
  unroll<M>([&](auto m) __attribute__((always_inline)) {
    row[m] = rows[m];
    unroll<N>([&](auto n) __attribute__((always_inline)) { local[m][n] = sums[m][n]; });
  });
  for (int64_t k = 0; k < depth; ++k, panel += Panels<T>::kWidth) {
    unroll<N>([&](auto n) __attribute__((always_inline)) {
      right[n] = load(panel + n * kLanes<T>);
    });
    unroll<M>([&](auto m) __attribute__((always_inline)) {
      const Vector<T> left = row[m][k] - Vector<T>{};
      unroll<N>([&](auto n) __attribute__((always_inline)) {
        local[m][n] += left * right[n];
      });
    });
  }
  unroll<M>([&](auto m) __attribute__((always_inline)) {
    unroll<N>([&](auto n) __attribute__((always_inline)) { sums[m][n] = local[m][n]; });
  });
}

// M rows from number `row` on: start, multiply, finish.
template <int M, int N, typename T, typename Start, typename Finish>
inline void block(
    const T* const* rows, int64_t row, const Panels<T>& matrix, int64_t panel, Start& start,
    Finish& finish) {
  Vector<T> sums[M][N];
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    start(row + m, panel, sums[m]);
  }
  multiply<M, N>(rows + row, matrix.depth, matrix.panel(panel), sums);
#pragma GCC unroll 6
  for (int m = 0; m < M; ++m) {
    finish(row + m, panel, sums[m]);
  }
}

// A product of `count` rows and one panel. The rows are spread evenly over the blocks, because
// seven rows are faster as four and three than as six and one.
template <int N, typename T, typename Start, typename Finish>
void multiply_panel(
    const T* const* rows, int64_t count, const Panels<T>& matrix, int64_t panel, Start& start,
    Finish& finish) {
  for (int64_t row = 0, blocks = (count + kRows - 1) / kRows; blocks > 0; --blocks) {
    const int64_t size = (count - row + blocks - 1) / blocks;
    switch (size) {
      case 1: block<1, N>(rows, row, matrix, panel, start, finish); break;
      case 2: block<2, N>(rows, row, matrix, panel, start, finish); break;
      case 3: block<3, N>(rows, row, matrix, panel, start, finish); break;
      case 4: block<4, N>(rows, row, matrix, panel, start, finish); break;
      case 5: block<5, N>(rows, row, matrix, panel, start, finish); break;
      default: block<6, N>(rows, row, matrix, panel, start, finish);
    }
    row += size;
  }
}

// rows [count, depth] times the matrix. For every row and panel `start(row, panel, sums)` sets the
// sums to start from and `finish(row, panel, sums)` takes them, while they are in registers.
template <typename T, typename Start, typename Finish>
void multiply_rows(
    const T* const* rows, int64_t count, const Panels<T>& matrix, Start start, Finish finish) {
  for (int64_t panel = 0; panel < matrix.count(); ++panel) {
    switch (matrix.vectors(panel)) {
      case 1: multiply_panel<1>(rows, count, matrix, panel, start, finish); break;
      case 2: multiply_panel<2>(rows, count, matrix, panel, start, finish); break;
      case 3: multiply_panel<3>(rows, count, matrix, panel, start, finish); break;
      default: multiply_panel<4>(rows, count, matrix, panel, start, finish);
    }
  }
}

// The same for a matrix that yields the gates: each panel holds the four gates of one vector of
// hidden units, so that `finish` has all that the cell's formulas need.
template <typename T, typename Start, typename Finish>
void multiply_gates(
    const T* const* rows, int64_t count, const Panels<T>& matrix, Start start, Finish finish) {
  for (int64_t panel = 0; panel < matrix.count(); ++panel) {
    multiply_panel<4>(rows, count, matrix, panel, start, finish);
  }
}

// ---------------------------------------------------------------------------------------------
// Layouts
// ---------------------------------------------------------------------------------------------

// Where the row of a weight matrix [4 * H, ...] lies among the padded gates, which are ordered
// [vector of hidden units, gate, lane]; -1 for padding.
template <typename T>
int64_t gate_row(int64_t place, int64_t hidden_size) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t unit = place / (kGates * lanes) * lanes + place % lanes;
  const int64_t gate = place / lanes % kGates;
  return unit < hidden_size ? gate * hidden_size + unit : -1;
}

// [4 * H, ...] in the order of the padded gates, and back.
Tensor interleave_gates(const Tensor& weight, int64_t lanes) {
  const int64_t columns = weight.size(1);
  const int64_t hidden_size = weight.size(0) / kGates;
  const int64_t rest = padded(hidden_size) - hidden_size;
  return at::constant_pad_nd(weight.reshape({kGates, hidden_size, columns}), {0, 0, 0, rest})
      .view({kGates, -1, lanes, columns})
      .transpose(0, 1)
      .reshape({-1, columns});
}

Tensor deinterleave_gates(const Tensor& interleaved, int64_t hidden_size, int64_t lanes) {
  const int64_t columns = interleaved.size(1);
  return interleaved.view({-1, kGates, lanes, columns})
      .transpose(0, 1)
      .reshape({kGates, -1, columns})
      .narrow(1, 0, hidden_size)
      .reshape({kGates * hidden_size, columns});
}

// Every thread's share of the sequences: number `first` and every `stride`-th after it.
struct Slice {
  int64_t direction, first, stride;

  int64_t rows(int64_t batch_size) const {
    return batch_size > first ? (batch_size - first + stride - 1) / stride : 0;
  }
  int64_t sequence(int64_t row) const { return first + row * stride; }
};

struct Batch {
  std::vector<int64_t> sizes, offsets;  // of each time step; the offsets are rows of packed data

  explicit Batch(const Tensor& batch_sizes) {
    const Tensor contiguous = batch_sizes.contiguous();
    const int64_t* values = contiguous.const_data_ptr<int64_t>();
    int64_t offset = 0;
    for (int64_t t = 0; t < contiguous.numel(); ++t) {
      TORCH_CHECK(
          values[t] >= 0 && (t == 0 || values[t] <= values[t - 1]),
          "batch_sizes should not be negative and not grow");
      sizes.push_back(values[t]);
      offsets.push_back(offset);
      offset += values[t];
    }
    offsets.push_back(offset);
  }

  int64_t time() const { return static_cast<int64_t>(sizes.size()); }
  int64_t steps() const { return offsets.back(); }
  // The time step that a direction reads as its number `k`.
  int64_t at(int64_t k, int64_t direction) const { return direction == 1 ? time() - 1 - k : k; }
  // A row of packed data.
  int64_t place(int64_t t, int64_t sequence) const { return offsets[t] + sequence; }
};

// Calls work(slice) for every direction and slice. A row's sums do not depend on the slice that it
// is in, so that any number of threads gives the same results.
template <typename Work>
void for_each_slice(int64_t directions, int64_t batch_size, Work work) {
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t slices = std::min(
      (threads + directions - 1) / directions, std::max<int64_t>(batch_size, 1));
  at::parallel_for(0, directions * slices, 1, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) {
      work(Slice{number / slices, number % slices, slices});
    }
  });
}

constexpr auto from_zero = [](int64_t, int64_t, auto& sums) {
  for (auto& sum : sums) {
    sum = std::decay_t<decltype(sum)>{};
  }
};

// Stores the sums of one row and panel into a row of `columns` elements.
template <int N, typename T>
void store_panel(const Vector<T> (&sums)[N], T* row, int64_t panel, int64_t columns) {
  constexpr int64_t lanes = kLanes<T>;
#pragma GCC unroll 4
  for (int64_t n = 0; n < N; ++n) {
    const int64_t column = panel * Panels<T>::kWidth + n * lanes;
    store(sums[n], row + column, columns - column);
  }
}

// ---------------------------------------------------------------------------------------------
// Forward
// ---------------------------------------------------------------------------------------------

// So many bytes of pre-activations at a time: what the input's product writes is still in the
// cache when the recurrence reads it.
constexpr int64_t kChunkBytes = 512 * 1024;

template <typename T>
struct Forward {
  const Batch& batch;
  const Tensor &data, &h_0, &c_0;
  const std::vector<Panels<T>>&w_ih, &w_hh, &w_hr;  // of each direction; w_hr may be empty
  const Tensor& bias;                               // [D, 4 * padded H], or undefined
  bool keep;                                        // for the backward
  Tensor &output, &h_n, &c_n, &gates, &cells;

  void operator()(const Slice& slice) const {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t d = slice.direction, directions = h_0.size(0), batch_size = batch.sizes[0];
    const int64_t hidden_size = c_0.size(2), width = padded(hidden_size), size_h = h_0.size(2);
    const int64_t input_size = data.size(1), rows = slice.rows(batch_size);
    const bool projects = !w_hr.empty();

    // Where the newest h and c of each sequence are: at first a copy of c_0, later in the results.
    std::vector<const T*> h(rows);
    std::vector<T*> c(rows), new_c(rows);
    Tensor c_rows = at::zeros({rows, width}, c_0.options());
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t sequence = d * batch_size + slice.sequence(row);
      h[row] = h_0.const_data_ptr<T>() + sequence * size_h;
      c[row] = c_rows.mutable_data_ptr<T>() + row * width;
      std::copy_n(c_0.const_data_ptr<T>() + sequence * hidden_size, hidden_size, c[row]);
    }

    const int64_t chunk_rows =
        std::max<int64_t>(rows, kChunkBytes / (kGates * width * int64_t(sizeof(T))));
    Tensor z_rows, unprojected_rows;
    if (!keep) {
      z_rows = at::empty({chunk_rows, kGates * width}, data.options());
    }
    if (projects) {
      unprojected_rows = at::empty({rows, width}, data.options());
    }
    std::vector<const T*> x, unprojected(rows);
    std::vector<T*> z, new_h(rows);
    for (int64_t row = 0; projects && row < rows; ++row) {
      unprojected[row] = unprojected_rows.const_data_ptr<T>() + row * width;
    }

    for (int64_t k = 0, end = 0; k < batch.time(); k = end) {
      // W_ih x + b of a chunk of time steps.
      x.clear();
      z.clear();
      for (; end < batch.time(); ++end) {
        const int64_t t = batch.at(end, d), count = slice.rows(batch.sizes[t]);
        if (static_cast<int64_t>(x.size()) + count > chunk_rows) {
          break;
        }
        for (int64_t row = 0; row < count; ++row) {
          const int64_t place = batch.place(t, slice.sequence(row));
          z.push_back(
              keep ? gates.mutable_data_ptr<T>() + (d * batch.steps() + place) * kGates * width
                   : z_rows.mutable_data_ptr<T>() + int64_t(x.size()) * kGates * width);
          x.push_back(data.const_data_ptr<T>() + place * input_size);
        }
      }
      const T* b = bias.defined() ? bias.const_data_ptr<T>() + d * kGates * width : nullptr;
      multiply_gates(
          x.data(), x.size(), w_ih[d],
          [&](int64_t, int64_t panel, auto& sums) {
            for (int64_t gate = 0; gate < kGates; ++gate) {
              sums[gate] = b ? load(b + (panel * kGates + gate) * lanes) : Vector<T>{};
            }
          },
          [&](int64_t row, int64_t panel, auto& sums) {
            for (int64_t gate = 0; gate < kGates; ++gate) {
              store(sums[gate], z[row] + (panel * kGates + gate) * lanes);
            }
          });

      T* const* step_z = z.data();
      for (int64_t step = k; step < end; ++step) {
        const int64_t t = batch.at(step, d), count = slice.rows(batch.sizes[t]);
        for (int64_t row = 0; row < count; ++row) {
          const int64_t place = batch.place(t, slice.sequence(row));
          new_h[row] = output.mutable_data_ptr<T>() + (place * directions + d) * size_h;
          new_c[row] =
              keep ? cells.mutable_data_ptr<T>() + (d * batch.steps() + place) * width : c[row];
        }
        multiply_gates(
            h.data(), count, w_hh[d],
            [&](int64_t row, int64_t panel, auto& sums) {
              for (int64_t gate = 0; gate < kGates; ++gate) {
                sums[gate] = load(step_z[row] + (panel * kGates + gate) * lanes);
              }
            },
            [&](int64_t row, int64_t panel, auto& sums) {
              activate(sums);
              if (keep) {
                for (int64_t gate = 0; gate < kGates; ++gate) {
                  store(sums[gate], step_z[row] + (panel * kGates + gate) * lanes);
                }
              }
              const int64_t unit = panel * lanes;
              const auto& [i, f, g, o] = sums;
              const Vector<T> c_t = f * load(c[row] + unit) + i * g;
              store(c_t, new_c[row] + unit);
              const Vector<T> h_t = o * tanh(c_t);
              if (projects) {
                store(h_t, unprojected_rows.mutable_data_ptr<T>() + row * width + unit);
              } else {
                store(h_t, new_h[row] + unit, hidden_size - unit);
              }
            });
        if (projects) {
          multiply_rows(
              unprojected.data(), count, w_hr[d], from_zero,
              [&](int64_t row, int64_t panel, auto& sums) {
                store_panel(sums, new_h[row], panel, size_h);
              });
        }
        std::copy_n(new_h.begin(), count, h.begin());
        std::copy_n(new_c.begin(), count, c.begin());
        step_z += count;
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t sequence = d * batch_size + slice.sequence(row);
      std::copy_n(h[row], size_h, h_n.mutable_data_ptr<T>() + sequence * size_h);
      std::copy_n(c[row], hidden_size, c_n.mutable_data_ptr<T>() + sequence * hidden_size);
    }
  }
};

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Result forward(
    const Tensor& data, const Tensor& batch_sizes, const Tensor& h_0, const Tensor& c_0,
    const Tensor& weight_ih, const Tensor& weight_hh, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& weight_hr, bool keep) {
  const Batch batch(batch_sizes);
  const int64_t directions = c_0.size(0), hidden_size = c_0.size(2), size_h = h_0.size(2);
  const int64_t width = padded(hidden_size), input_size = data.size(1);
  const auto options = data.options();
  constexpr int64_t lanes = kLanes<T>;

  std::vector<Panels<T>> w_ih, w_hh, w_hr;
  Tensor gate_bias;
  for (int64_t d = 0; d < directions; ++d) {
    const auto gates_panels = [&](const Tensor& weight, int64_t depth) {
      const T* w = weight.const_data_ptr<T>() + d * kGates * hidden_size * depth;
      return Panels<T>(options, depth, kGates * width, [=](int64_t k, int64_t column) {
        const int64_t row = gate_row<T>(column, hidden_size);
        return row < 0 ? T(0) : w[row * depth + k];
      });
    };
    w_ih.push_back(gates_panels(weight_ih, input_size));
    w_hh.push_back(gates_panels(weight_hh, size_h));
    if (weight_hr) {
      const T* w = weight_hr->const_data_ptr<T>() + d * size_h * hidden_size;
      w_hr.emplace_back(options, hidden_size, size_h, [=](int64_t k, int64_t column) {
        return w[column * hidden_size + k];
      });
    }
  }
  if (bias) {
    std::vector<Tensor> parts;
    for (int64_t d = 0; d < directions; ++d) {
      parts.push_back(interleave_gates(bias->select(0, d).unsqueeze(1), lanes));
    }
    gate_bias = at::cat(parts).contiguous();
  }

  Tensor output = at::empty({batch.steps(), directions * size_h}, options);
  Tensor h_n = at::empty_like(h_0), c_n = at::empty_like(c_0);
  const int64_t kept = keep ? batch.steps() : 0;
  Tensor gates = at::empty({directions, kept, kGates * width}, options);
  Tensor cells = at::empty({directions, kept, width}, options);
  for_each_slice(
      directions, batch.sizes[0],
      Forward<T>{
          batch, data, h_0, c_0, w_ih, w_hh, w_hr, gate_bias, keep, output, h_n, c_n, gates,
          cells});
  return {output, h_n, c_n, gates, cells};
}

// ---------------------------------------------------------------------------------------------
// Backward. With d for the gradient of the loss, from the last step read to the first:
//
//     dc_t = dc_t + dh_t * o_t * (1 - tanh(c_t)^2)
//     dz_t = (dc_t g i (1-i), dc_t c_{t-1} f (1-f), dc_t i (1-g^2), dh_t tanh(c_t) o (1-o))
//     dc_{t-1} = dc_t * f_t          dh_{t-1} = dz_t W_hh
//
// and afterwards one product over all steps for each weight, such as dW_hh = sum of dz_t h_{t-1}.
// ---------------------------------------------------------------------------------------------

// dz of one row from dh and dc, in place of which dc_{t-1} is left.
template <typename T>
inline void cell_backward(
    const T* gates, const T* c, const T* c_before, const T* d_hidden, T* d_c, int64_t width,
    T* d_z, T* hidden) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t unit = 0; unit < width; unit += lanes) {
    const T* from = gates + kGates * unit;
    T* to = d_z + kGates * unit;
    const Vector<T> i = load(from), f = load(from + lanes);
    const Vector<T> g = load(from + 2 * lanes), o = load(from + 3 * lanes);
    const Vector<T> tanh_c = tanh(load(c + unit));
    const Vector<T> dh = load(d_hidden + unit);
    const Vector<T> dc = load(d_c + unit) + dh * o * (1 - tanh_c * tanh_c);
    store(dc * g * i * (1 - i), to);
    store(dc * load(c_before + unit) * f * (1 - f), to + lanes);
    store(dc * i * (1 - g * g), to + 2 * lanes);
    store(dh * tanh_c * o * (1 - o), to + 3 * lanes);
    store(dc * f, d_c + unit);
    if (hidden) {
      store(o * tanh_c, hidden + unit);
    }
  }
}

template <typename T>
struct Backward {
  const Batch& batch;
  const Tensor& d_output;  // undefined: zeros
  const Tensor &h_0, &c_0, &output, &gates, &cells;
  const std::vector<Panels<T>>&w_hh, &w_hr;
  Tensor &d_z, &h_previous, &d_h, &d_c;  // d_h and d_c come in as the final, go out as the initial
  Tensor &d_projected, &unprojected;     // undefined without projection

  void operator()(const Slice& slice) const {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t d = slice.direction, directions = h_0.size(0), batch_size = batch.sizes[0];
    const int64_t hidden_size = c_0.size(2), width = padded(hidden_size), size_h = h_0.size(2);
    const int64_t rows = slice.rows(batch_size), first = d * batch.steps();
    const bool projects = !w_hr.empty();

    const auto padded_rows = [&](const Tensor& from, int64_t size) {
      Tensor result = at::zeros({rows, padded(size)}, from.options());
      for (int64_t row = 0; row < rows; ++row) {
        std::copy_n(
            from.const_data_ptr<T>() + (d * batch_size + slice.sequence(row)) * size, size,
            result.mutable_data_ptr<T>() + row * padded(size));
      }
      return result;
    };
    const Tensor c_start = padded_rows(c_0, hidden_size);
    Tensor d_h_rows = padded_rows(d_h, size_h), d_c_rows = padded_rows(d_c, hidden_size);
    Tensor d_hidden_rows = projects ? at::empty({rows, width}, c_0.options()) : d_h_rows;
    T* const dh = d_h_rows.mutable_data_ptr<T>();
    T* const dc = d_c_rows.mutable_data_ptr<T>();
    const int64_t width_h = padded(size_h);
    std::vector<const T*> left(rows);

    for (int64_t k = batch.time() - 1; k >= 0; --k) {
      const int64_t t = batch.at(k, d), count = slice.rows(batch.sizes[t]);
      const int64_t before = k > 0 ? batch.at(k - 1, d) : -1;
      const int64_t count_before = k > 0 ? slice.rows(batch.sizes[before]) : 0;

      if (d_output.defined()) {
        for (int64_t row = 0; row < count; ++row) {
          const int64_t place = batch.place(t, slice.sequence(row));
          const T* from = d_output.const_data_ptr<T>() + (place * directions + d) * size_h;
          T* to = dh + row * width_h;
          for (int64_t unit = 0; unit < size_h; unit += lanes) {
            store(load(to + unit) + load(from + unit, size_h - unit), to + unit);
          }
        }
      }
      if (projects) {
        for (int64_t row = 0; row < count; ++row) {
          const int64_t place = first + batch.place(t, slice.sequence(row));
          left[row] = dh + row * width_h;
          std::copy_n(left[row], size_h, d_projected.mutable_data_ptr<T>() + place * size_h);
        }
        multiply_rows(
            left.data(), count, w_hr[d], from_zero,
            [&](int64_t row, int64_t panel, auto& sums) {
              store_panel(sums, d_hidden_rows.mutable_data_ptr<T>() + row * width, panel, width);
            });
      }

      for (int64_t row = 0; row < count; ++row) {
        const int64_t sequence = slice.sequence(row), place = first + batch.place(t, sequence);
        const bool starts = row >= count_before;
        const int64_t place_before = starts ? 0 : batch.place(before, sequence);
        const T* c = cells.const_data_ptr<T>() + place * width;
        const T* c_before = starts ? c_start.const_data_ptr<T>() + row * width
                                   : cells.const_data_ptr<T>() + (first + place_before) * width;
        const T* h_before =
            starts ? h_0.const_data_ptr<T>() + (d * batch_size + sequence) * size_h
                   : output.const_data_ptr<T>() + (place_before * directions + d) * size_h;
        std::copy_n(h_before, size_h, h_previous.mutable_data_ptr<T>() + place * size_h);
        left[row] = d_z.const_data_ptr<T>() + place * kGates * width;
        cell_backward(
            gates.const_data_ptr<T>() + place * kGates * width, c, c_before,
            d_hidden_rows.const_data_ptr<T>() + row * width, dc + row * width, width,
            d_z.mutable_data_ptr<T>() + place * kGates * width,
            projects ? unprojected.mutable_data_ptr<T>() + place * width : nullptr);
      }
      multiply_rows(
          left.data(), count, w_hh[d], from_zero, [&](int64_t row, int64_t panel, auto& sums) {
            store_panel(sums, dh + row * width_h, panel, width_h);
          });
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t sequence = d * batch_size + slice.sequence(row);
      std::copy_n(dh + row * width_h, size_h, d_h.mutable_data_ptr<T>() + sequence * size_h);
      std::copy_n(
          dc + row * width, hidden_size, d_c.mutable_data_ptr<T>() + sequence * hidden_size);
    }
  }
};

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Gradients backward(
    const Tensor& d_output, const Tensor& d_h_n, const Tensor& d_c_n, const Tensor& data,
    const Tensor& batch_sizes, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
    const Tensor& weight_hh, const std::optional<Tensor>& weight_hr, const Tensor& output,
    const Tensor& gates, const Tensor& cells, bool needs_data) {
  const Batch batch(batch_sizes);
  const int64_t directions = c_0.size(0), hidden_size = c_0.size(2), size_h = h_0.size(2);
  const int64_t width = padded(hidden_size), steps = batch.steps();
  const auto options = data.options();
  constexpr int64_t lanes = kLanes<T>;

  std::vector<Panels<T>> w_hh, w_hr;
  for (int64_t d = 0; d < directions; ++d) {
    const T* w = weight_hh.const_data_ptr<T>() + d * kGates * hidden_size * size_h;
    w_hh.emplace_back(options, kGates * width, size_h, [=](int64_t k, int64_t column) {
      const int64_t row = gate_row<T>(k, hidden_size);
      return row < 0 ? T(0) : w[row * size_h + column];
    });
    if (weight_hr) {
      const T* w = weight_hr->const_data_ptr<T>() + d * size_h * hidden_size;
      w_hr.emplace_back(options, size_h, width, [=](int64_t k, int64_t column) {
        return column < hidden_size ? w[k * hidden_size + column] : T(0);
      });
    }
  }

  Tensor d_h = d_h_n.defined() ? d_h_n.clone(at::MemoryFormat::Contiguous) : at::zeros_like(h_0);
  Tensor d_c = d_c_n.defined() ? d_c_n.clone(at::MemoryFormat::Contiguous) : at::zeros_like(c_0);
  Tensor d_z = at::empty({directions, steps, kGates * width}, options);
  Tensor h_previous = at::empty({directions, steps, size_h}, options);
  Tensor d_projected, unprojected;
  if (weight_hr) {
    d_projected = at::empty({directions, steps, size_h}, options);
    unprojected = at::empty({directions, steps, width}, options);
  }
  for_each_slice(
      directions, batch.sizes[0],
      Backward<T>{
          batch, d_output, h_0, c_0, output, gates, cells, w_hh, w_hr, d_z, h_previous, d_h, d_c,
          d_projected, unprojected});

  Tensor d_data = at::empty({0}, options), d_weight_hr = at::empty({0}, options);
  Tensor d_weight_ih = at::empty_like(weight_ih), d_weight_hh = at::empty_like(weight_hh);
  Tensor d_bias = at::empty({directions, kGates * hidden_size}, options);
  if (weight_hr) {
    d_weight_hr = at::empty_like(*weight_hr);
  }
  for (int64_t d = 0; d < directions; ++d) {
    const Tensor z = d_z[d];
    const auto sum_over_steps = [&](const Tensor& right) {
      return deinterleave_gates(at::mm(z.t(), right), hidden_size, lanes);
    };
    d_weight_ih[d].copy_(sum_over_steps(data));
    d_weight_hh[d].copy_(sum_over_steps(h_previous[d]));
    d_bias[d].copy_(deinterleave_gates(z.sum(0).unsqueeze(1), hidden_size, lanes).squeeze(1));
    if (weight_hr) {
      d_weight_hr[d].copy_(at::mm(d_projected[d].t(), unprojected[d]).narrow(1, 0, hidden_size));
    }
    if (needs_data) {
      const Tensor w = interleave_gates(weight_ih[d], lanes);
      d_data = d == 0 ? at::mm(z, w) : d_data.addmm_(z, w);
    }
  }
  return {d_data, d_h, d_c, d_weight_ih, d_weight_hh, d_bias, d_weight_hr};
}

// ---------------------------------------------------------------------------------------------
// Operators
// ---------------------------------------------------------------------------------------------

std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(tensor->contiguous()) : std::nullopt;
}

Tensor defined_or_empty(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->contiguous() : Tensor();
}

Result lstm_layer(
    const Tensor& data, const Tensor& batch_sizes, const Tensor& h_0, const Tensor& c_0,
    const Tensor& weight_ih, const Tensor& weight_hh, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& weight_hr, bool keep) {
  const auto run = data.scalar_type() == at::kDouble ? forward<double> : forward<float>;
  return run(
      data.contiguous(), batch_sizes, h_0.contiguous(), c_0.contiguous(), weight_ih.contiguous(),
      weight_hh.contiguous(), contiguous(bias), contiguous(weight_hr), keep);
}

Gradients lstm_layer_backward(
    const std::optional<Tensor>& d_output, const std::optional<Tensor>& d_h_n,
    const std::optional<Tensor>& d_c_n, const Tensor& data, const Tensor& batch_sizes,
    const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih, const Tensor& weight_hh,
    const std::optional<Tensor>& weight_hr, const Tensor& output, const Tensor& gates,
    const Tensor& cells, bool needs_data) {
  const auto run = data.scalar_type() == at::kDouble ? backward<double> : backward<float>;
  return run(
      defined_or_empty(d_output), defined_or_empty(d_h_n), defined_or_empty(d_c_n),
      data.contiguous(), batch_sizes, h_0.contiguous(), c_0.contiguous(), weight_ih.contiguous(),
      weight_hh.contiguous(), contiguous(weight_hr), output, gates, cells, needs_data);
}

}  // namespace

TORCH_LIBRARY(attnlstm, library) {
  library.def(
      "lstm_layer(Tensor data, Tensor batch_sizes, Tensor h_0, Tensor c_0, Tensor weight_ih, "
      "Tensor weight_hh, Tensor? bias, Tensor? weight_hr, bool keep) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "lstm_layer_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor data, "
      "Tensor batch_sizes, Tensor h_0, Tensor c_0, Tensor weight_ih, Tensor weight_hh, "
      "Tensor? weight_hr, Tensor output, Tensor gates, Tensor cells, bool needs_data) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(attnlstm, CPU, library) {
  library.impl("lstm_layer", lstm_layer);
  library.impl("lstm_layer_backward", lstm_layer_backward);
}
