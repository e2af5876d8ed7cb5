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
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/ops/empty_like.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

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
constexpr int64_t kWidth = kGates * kLanes<T>;  // of a panel

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

// tanh(s x) = x p(x^2) / q(x^2), the rational approximation of Eigen and XLA, within 4e-7 of it.
// Numerator and denominator come apart so that several tanh can share one slow division. A scale s
// of 1/2, as in sigmoid(x) = 1/2 + 1/2 tanh(x / 2), goes into the coefficients, without rounding.
struct Fraction {
  Vector<float> numerator, denominator;
};

template <int inverse_scale>
inline Fraction tanh_fraction(Vector<float> x) {
  constexpr float s = 1.f / inverse_scale, s2 = s * s, s4 = s2 * s2, s6 = s4 * s2, s8 = s4 * s4;
  constexpr float bound = 7.90531110763549805f * inverse_scale;
  x = bound < x ? Vector<float>{} + bound : x;  // a NaN stays one
  x = -bound > x ? Vector<float>{} - bound : x;
  const Vector<float> y = x * x;
  Vector<float> p = y * (s8 * s4 * s * -2.76076847742355e-16f) + s8 * s2 * s * 2.00018790482477e-13f;
  p = p * y - s8 * s * 8.60467152213735e-11f;
  p = p * y + s6 * s * 5.12229709037114e-08f;
  p = p * y + s4 * s * 1.48572235717979e-05f;
  p = p * y + s2 * s * 6.37261928875436e-04f;
  p = p * y + s * 4.89352455891786e-03f;
  Vector<float> q = y * (s6 * 1.19825839466702e-06f) + s4 * 1.18534705686654e-04f;
  q = q * y + s2 * 2.26843463243900e-03f;
  q = q * y + 4.89352518554385e-03f;
  return {x * p, q};
}

inline Vector<float> tanh(Vector<float> x) {
  const Fraction t = tanh_fraction<1>(x);
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
  const Fraction i = tanh_fraction<2>(z[0]);
  const Fraction f = tanh_fraction<2>(z[1]);
  const Fraction g = tanh_fraction<1>(z[2]);
  const Fraction o = tanh_fraction<2>(z[3]);
  // One division for all four: 1 / a = b / (a b).
  const Vector<float> i_f = i.denominator * f.denominator;
  const Vector<float> g_o = g.denominator * o.denominator;
  const Vector<float> inverse = 1.f / (i_f * g_o);
  const Vector<float> half_inverse_i_f = inverse * (0.5f * g_o);
  const Vector<float> inverse_g_o = inverse * i_f;
  z[0] = i.numerator * (f.denominator * half_inverse_i_f) + 0.5f;
  z[1] = f.numerator * (i.denominator * half_inverse_i_f) + 0.5f;
  z[2] = g.numerator * (o.denominator * inverse_g_o);
  z[3] = o.numerator * (0.5f * g.denominator * inverse_g_o) + 0.5f;
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
  int64_t depth, columns;
  Tensor storage;

  // `element(k, column)` is the matrix.
  template <typename Element>
  Panels(const at::TensorOptions& options, int64_t depth, int64_t columns, Element element)
      : depth(depth), columns(columns), storage(at::empty({count(), depth, kWidth<T>}, options)) {
    T* out = storage.mutable_data_ptr<T>();
    at::parallel_for(0, count(), 1 + 16384 / (depth * kWidth<T>), [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        for (int64_t k = 0; k < depth; ++k) {
          T* row = out + (panel * depth + k) * kWidth<T>;
          for (int64_t column = 0; column < kWidth<T>; ++column) {
            const int64_t j = panel * kWidth<T> + column;
            row[column] = j < columns ? element(k, j) : T(0);
          }
        }
      }
    });
  }

  int64_t count() const { return (columns + kWidth<T> - 1) / kWidth<T>; }
  const T* panel(int64_t number) const {
    return storage.const_data_ptr<T>() + number * depth * kWidth<T>;
  }
  int64_t vectors(int64_t panel) const {
    const int64_t rest = columns - panel * kWidth<T>;
    return rest >= kWidth<T> ? kGates : (rest + kLanes<T> - 1) / kLanes<T>;
  }
};

// The left side of a product: `count` rows of which element k is `row[k * step]`.
template <typename T>
struct Rows {
  const T* const* first;
  int64_t count;
  int64_t step = 1;
};

// sums[m][n] += rows[m][k] panel[k][n], over k from `begin` to `end`. Meanwhile asks for the memory
// from `next` on, a vector for each k: weights that the second-level cache cannot hold arrive in
// time.
template <int M, int N, typename T>
inline void multiply(
    const T* const* rows, int64_t step, const T* panel, int64_t begin, int64_t end,
    const T* next, Vector<T> (&sums)[M][N]) {
  const T* row[M];
  Vector<T> local[M][N], right[N];
  unroll<M>([&](auto m) __attribute__((always_inline)) {
    row[m] = rows[m];
    unroll<N>([&](auto n) __attribute__((always_inline)) { local[m][n] = sums[m][n]; });
  });
  for (int64_t k = begin; k < end; ++k) {
    unroll<N>([&](auto n) __attribute__((always_inline)) {
      right[n] = load(panel + k * kWidth<T> + n * kLanes<T>);
    });
    __builtin_prefetch(next + k * kLanes<T>);
    unroll<M>([&](auto m) __attribute__((always_inline)) {
      const Vector<T> left = row[m][k * step] - Vector<T>{};
      unroll<N>([&](auto n) __attribute__((always_inline)) { local[m][n] += left * right[n]; });
    });
  }
  unroll<M>([&](auto m) __attribute__((always_inline)) {
    unroll<N>([&](auto n) __attribute__((always_inline)) { sums[m][n] = local[m][n]; });
  });
}

// So much of a panel stays in the first-level cache while all rows are multiplied with it.
template <typename T>
constexpr int64_t kDepth = 32 * 1024 / (kWidth<T> * int64_t(sizeof(T)));

// The product of all rows and one panel. `start(row, sums)` sets the sums of a row to start from;
// `finish(row, sums, count)` takes those of the `count` rows from `row` on, still in the cache.
template <int N, typename T, typename Start, typename Finish>
void multiply_panel(
    const Rows<T>& rows, const T* panel, int64_t depth, Start start, Finish finish) {
  thread_local std::vector<Vector<T>> unfinished;  // sums between two parts of the depth
  if (depth > kDepth<T>) {
    unfinished.resize(std::max<size_t>(unfinished.size(), rows.count * N));
  }
  int64_t begin = 0;
  do {
    const int64_t end = std::min(depth, begin + kDepth<T>);
    const auto block = [&]<int M>(int64_t row) {
      Vector<T> sums[M][N];
      unroll<M>([&](auto m) __attribute__((always_inline)) {
        if (begin == 0) {
          start(row + m, sums[m]);
        } else {
          std::copy_n(&unfinished[(row + m) * N], N, sums[m]);
        }
      });
      const T* next = panel + end * kWidth<T> + (row / kRows * (end - begin) - begin) * kLanes<T>;
      multiply<M, N>(rows.first + row, rows.step, panel, begin, end, next, sums);
      if (end == depth) {
        finish(row, sums, M);
      } else {
        std::copy_n(sums[0], M * N, &unfinished[row * N]);
      }
    };
    // Spread evenly, because seven rows are faster as four and three than as six and one.
    int64_t row = 0;
    for (int64_t blocks = (rows.count + kRows - 1) / kRows; blocks > 0; --blocks) {
      const int64_t size = (rows.count - row + blocks - 1) / blocks;
      switch (size) {
        case 1: block.template operator()<1>(row); break;
        case 2: block.template operator()<2>(row); break;
        case 3: block.template operator()<3>(row); break;
        case 4: block.template operator()<4>(row); break;
        case 5: block.template operator()<5>(row); break;
        default: block.template operator()<6>(row);
      }
      row += size;
    }
    begin = end;
  } while (begin < depth);
}

// rows [count, depth] times a matrix whose every panel holds the four gates of one vector of hidden
// units, so that `finish(row, unit, gates)` has all that the cell's formulas need.
template <typename T, typename Start, typename Finish>
void multiply_gates(const Rows<T>& rows, const Panels<T>& matrix, Start start, Finish finish) {
  for (int64_t panel = 0; panel < matrix.count(); ++panel) {
    const int64_t unit = panel * kLanes<T>;
    multiply_panel<kGates>(
        rows, matrix.panel(panel), matrix.depth,
        [&](int64_t row, auto& sums) { start(row, unit, sums); },
        [&](int64_t row, auto* sums, int count) __attribute__((noinline)) {
          for (int m = 0; m < count; ++m) {
            finish(row + m, unit, sums[m]);
          }
        });
  }
}

// rows [count, depth] times the matrix, into the rows `out` of matrix.columns elements.
template <typename T>
void multiply_rows(const Rows<T>& rows, const Panels<T>& matrix, T* const* out) {
  const auto multiply_vectors = [&]<int N>(int64_t panel) {
    const int64_t column = panel * kWidth<T>;
    multiply_panel<N>(
        rows, matrix.panel(panel), matrix.depth,
        [](int64_t, auto& sums) { std::fill_n(sums, N, Vector<T>{}); },
        [&](int64_t row, auto* sums, int count) {
          for (int m = 0; m < count; ++m) {
            for (int64_t n = 0; n < N; ++n) {
              const int64_t first = column + n * kLanes<T>;
              store(sums[m][n], out[row + m] + first, matrix.columns - first);
            }
          }
        });
  };
  for (int64_t panel = 0; panel < matrix.count(); ++panel) {
    switch (matrix.vectors(panel)) {
      case 1: multiply_vectors.template operator()<1>(panel); break;
      case 2: multiply_vectors.template operator()<2>(panel); break;
      case 3: multiply_vectors.template operator()<3>(panel); break;
      default: multiply_vectors.template operator()<4>(panel);
    }
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

// A tensor that is about to be written. The system hands out memory in pages of 4 KiB, which for
// large tensors costs a tenth of a training step; asked for it, it does so in pages of 2 MiB.
Tensor empty_in_huge_pages(at::IntArrayRef sizes, const at::TensorOptions& options) {
  Tensor tensor = at::empty(sizes, options);
#ifdef __linux__
  constexpr uintptr_t page = 4096, huge_page = 2 * 1024 * 1024;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + tensor.nbytes()) / page * page;
  if (last > first + huge_page) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
  return tensor;
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
    const int64_t d = slice.direction, directions = h_0.size(0), batch_size = h_0.size(1);
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
    std::vector<const T*> x;
    std::vector<T*> z, new_h(rows), unprojected(rows);
    for (int64_t row = 0; projects && row < rows; ++row) {
      unprojected[row] = unprojected_rows.mutable_data_ptr<T>() + row * width;
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
          Rows<T>{x.data(), int64_t(x.size())}, w_ih[d],
          [&](int64_t, int64_t unit, auto& sums) {
            for (int64_t gate = 0; gate < kGates; ++gate) {
              sums[gate] = b ? load(b + kGates * unit + gate * lanes) : Vector<T>{};
            }
          },
          [&](int64_t row, int64_t unit, auto& sums) {
            for (int64_t gate = 0; gate < kGates; ++gate) {
              store(sums[gate], z[row] + kGates * unit + gate * lanes);
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
            Rows<T>{h.data(), count}, w_hh[d],
            [&](int64_t row, int64_t unit, auto& sums) {
              for (int64_t gate = 0; gate < kGates; ++gate) {
                sums[gate] = load(step_z[row] + kGates * unit + gate * lanes);
              }
            },
            [&](int64_t row, int64_t unit, auto& sums) {
              activate(sums);
              if (keep) {
                for (int64_t gate = 0; gate < kGates; ++gate) {
                  store(sums[gate], step_z[row] + kGates * unit + gate * lanes);
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
            });
        if (projects) {
          multiply_rows(Rows<T>{unprojected.data(), count}, w_hr[d], new_h.data());
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
  TORCH_CHECK(
      batch.steps() == data.size(0) && (batch.time() == 0 || batch.sizes[0] <= h_0.size(1)),
      "batch_sizes do not fit the data or the state");
  const int64_t directions = c_0.size(0), hidden_size = c_0.size(2), size_h = h_0.size(2);
  const int64_t width = padded(hidden_size), input_size = data.size(1);
  const auto options = data.options();

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
    gate_bias = at::zeros({directions, kGates * width}, options);
    for (int64_t place = 0; place < gate_bias.numel(); ++place) {
      const int64_t d = place / (kGates * width);
      const int64_t row = gate_row<T>(place % (kGates * width), hidden_size);
      if (row >= 0) {
        gate_bias.mutable_data_ptr<T>()[place] =
            bias->const_data_ptr<T>()[d * kGates * hidden_size + row];
      }
    }
  }

  Tensor output = empty_in_huge_pages({batch.steps(), directions * size_h}, options);
  Tensor h_n = at::empty_like(h_0), c_n = at::empty_like(c_0);
  const int64_t kept = keep ? batch.steps() : 0;
  Tensor gates = empty_in_huge_pages({directions, kept, kGates * width}, options);
  Tensor cells = empty_in_huge_pages({directions, kept, width}, options);
  for_each_slice(
      directions, h_0.size(1),
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

// The gradient of the pre-activations of one step of one sequence, given dh and dc. Leaves dc_{t-1}
// in the place of dc, and stores dz twice: as a row, for the product with W_hh that is next, and in
// panels [unit / lanes, N, 4 vectors], for the sums over all steps.
template <typename T>
inline void cell_backward(
    const T* gates, const T* c, const T* c_before, const T* d_hidden, T* d_c, int64_t width,
    T* d_z_row, T* d_z_panels, int64_t panel_size, T* hidden) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t unit = 0; unit < width; unit += lanes) {
    const T* from = gates + kGates * unit;
    const Vector<T> i = load(from), f = load(from + lanes);
    const Vector<T> g = load(from + 2 * lanes), o = load(from + 3 * lanes);
    const Vector<T> tanh_c = tanh(load(c + unit));
    const Vector<T> dh = load(d_hidden + unit);
    const Vector<T> dc = load(d_c + unit) + dh * o * (1 - tanh_c * tanh_c);
    const Vector<T> d_z[kGates] = {
        dc * g * i * (1 - i),
        dc * load(c_before + unit) * f * (1 - f),
        dc * i * (1 - g * g),
        dh * tanh_c * o * (1 - o),
    };
    T* panel = d_z_panels + unit / lanes * panel_size;
    for (int64_t gate = 0; gate < kGates; ++gate) {
      store(d_z[gate], d_z_row + kGates * unit + gate * lanes);
      store(d_z[gate], panel + gate * lanes);
    }
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
  const std::vector<Panels<T>>&w_ih, &w_hh, &w_hr;  // w_ih and w_hr may be empty
  Tensor &d_h, &d_c;                    // come in as the final, go out as the initial state's
  Tensor &d_z, &h_previous, &d_data;    // d_data [D, N, F], undefined where it is not wanted
  Tensor &d_projected, &unprojected;    // undefined without projection

  void operator()(const Slice& slice) const {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t d = slice.direction, directions = h_0.size(0), batch_size = h_0.size(1);
    const int64_t hidden_size = c_0.size(2), width = padded(hidden_size), size_h = h_0.size(2);
    const int64_t width_h = padded(size_h), rows = slice.rows(batch_size), steps = batch.steps();
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
    const auto row_pointers = [&](Tensor& tensor) {
      std::vector<T*> pointers(rows);
      for (int64_t row = 0; row < rows; ++row) {
        pointers[row] = tensor.mutable_data_ptr<T>() + row * tensor.size(1);
      }
      return pointers;
    };
    Tensor c_start = padded_rows(c_0, hidden_size);
    Tensor d_h_rows = padded_rows(d_h, size_h), d_c_rows = padded_rows(d_c, hidden_size);
    Tensor d_hidden_rows = projects ? at::empty({rows, width}, c_0.options()) : d_h_rows;
    const std::vector<T*> dh = row_pointers(d_h_rows), dc = row_pointers(d_c_rows);
    const std::vector<T*> d_hidden = row_pointers(d_hidden_rows), first_c = row_pointers(c_start);

    const int64_t chunk_rows =
        std::max<int64_t>(rows, kChunkBytes / (kGates * width * int64_t(sizeof(T))));
    Tensor chunk = at::empty({chunk_rows, kGates * width}, c_0.options());
    std::vector<const T*> d_z_rows;  // of the chunk
    std::vector<T*> d_x;
    const auto finish_chunk = [&] {
      if (d_data.defined()) {
        multiply_rows(Rows<T>{d_z_rows.data(), int64_t(d_z_rows.size())}, w_ih[d], d_x.data());
      }
      d_z_rows.clear();
      d_x.clear();
    };

    for (int64_t k = batch.time() - 1; k >= 0; --k) {
      const int64_t t = batch.at(k, d), count = slice.rows(batch.sizes[t]);
      const int64_t before = k > 0 ? batch.at(k - 1, d) : -1;
      const int64_t count_before = k > 0 ? slice.rows(batch.sizes[before]) : 0;

      for (int64_t row = 0; d_output.defined() && row < count; ++row) {
        const int64_t place = batch.place(t, slice.sequence(row));
        const T* from = d_output.const_data_ptr<T>() + (place * directions + d) * size_h;
        for (int64_t unit = 0; unit < size_h; unit += lanes) {
          store(load(dh[row] + unit) + load(from + unit, size_h - unit), dh[row] + unit);
        }
      }
      if (projects) {
        for (int64_t row = 0; row < count; ++row) {
          const int64_t place = batch.place(t, slice.sequence(row));
          for (int64_t unit = 0; unit < width_h; unit += lanes) {
            const int64_t panel = d * d_projected.size(1) + unit / kWidth<T>;
            T* to = d_projected.mutable_data_ptr<T>() + (panel * steps + place) * kWidth<T>;
            store(load(dh[row] + unit), to + unit % kWidth<T>);
          }
        }
        multiply_rows(Rows<T>{dh.data(), count}, w_hr[d], d_hidden.data());
      }

      if (static_cast<int64_t>(d_z_rows.size()) + count > chunk_rows) {
        finish_chunk();
      }
      const int64_t first = d_z_rows.size();
      for (int64_t row = 0; row < count; ++row) {
        const int64_t sequence = slice.sequence(row), place = batch.place(t, sequence);
        const int64_t kept = d * steps + place;
        const T* c = cells.const_data_ptr<T>() + kept * width;
        const T* c_before = first_c[row];
        const T* h_before = h_0.const_data_ptr<T>() + (d * batch_size + sequence) * size_h;
        if (row < count_before) {
          const int64_t place_before = batch.place(before, sequence);
          c_before = cells.const_data_ptr<T>() + (d * steps + place_before) * width;
          h_before = output.const_data_ptr<T>() + (place_before * directions + d) * size_h;
        }
        std::copy_n(h_before, size_h, h_previous.mutable_data_ptr<T>() + kept * size_h);
        T* d_z_row = chunk.mutable_data_ptr<T>() + (first + row) * kGates * width;
        cell_backward(
            gates.const_data_ptr<T>() + kept * kGates * width, c, c_before, d_hidden[row], dc[row],
            width, d_z_row,
            d_z.mutable_data_ptr<T>() + (d * width / lanes * steps + place) * kWidth<T>,
            steps * kWidth<T>,
            projects ? unprojected.mutable_data_ptr<T>() + kept * width : nullptr);
        d_z_rows.push_back(d_z_row);
        if (d_data.defined()) {
          d_x.push_back(d_data.mutable_data_ptr<T>() + kept * d_data.size(2));
        }
      }
      multiply_rows(Rows<T>{d_z_rows.data() + first, count}, w_hh[d], dh.data());
    }
    finish_chunk();
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t sequence = d * batch_size + slice.sequence(row);
      std::copy_n(dh[row], size_h, d_h.mutable_data_ptr<T>() + sequence * size_h);
      std::copy_n(dc[row], hidden_size, d_c.mutable_data_ptr<T>() + sequence * hidden_size);
    }
  }
};

// The sum over all steps of left[step]^T panel[step], [left_size, 4 vectors], in the order of the
// steps whatever the number of threads.
template <typename T>
void sum_over_steps(
    const T* left, int64_t left_size, const T* panel, int64_t begin, int64_t end, T* sum) {
  thread_local std::vector<const T*> rows;
  rows.resize(left_size);
  for (int64_t row = 0; row < left_size; ++row) {
    rows[row] = left + begin * left_size + row;
  }
  multiply_panel<kGates>(
      Rows<T>{rows.data(), left_size, left_size}, panel + begin * kWidth<T>, end - begin,
      [&](int64_t row, auto& sums) {
        for (int64_t n = 0; n < kGates; ++n) {
          sums[n] = load(sum + row * kWidth<T> + n * kLanes<T>);
        }
      },
      [&](int64_t row, auto* sums, int count) {
        for (int64_t n = 0; n < count * kGates; ++n) {
          store(sums[0][n], sum + row * kWidth<T> + n * kLanes<T>);
        }
      });
}

// The gradients of W_ih, W_hh and the biases of one vector of hidden units.
template <typename T>
void weight_gradients(
    const Tensor& data, const Tensor& h_previous, const Tensor& d_z, int64_t d, int64_t panel,
    Tensor& d_weight_ih, Tensor& d_weight_hh, Tensor& d_bias) {
  constexpr int64_t lanes = kLanes<T>, panel_width = kWidth<T>;
  const int64_t steps = data.size(0), input_size = data.size(1), size_h = h_previous.size(2);
  const int64_t hidden_size = d_bias.size(1) / kGates;
  const T* x = data.const_data_ptr<T>();
  const T* h = h_previous.const_data_ptr<T>() + d * steps * size_h;
  const T* z = d_z.const_data_ptr<T>() + (d * d_z.size(1) + panel) * steps * panel_width;
  Tensor sums = at::zeros({input_size + size_h + 1, panel_width}, data.options());
  T* sum_x = sums.mutable_data_ptr<T>();
  T* sum_h = sum_x + input_size * panel_width;
  T* sum = sum_h + size_h * panel_width;
  for (int64_t begin = 0; begin < steps; begin += kDepth<T>) {
    const int64_t end = std::min(steps, begin + kDepth<T>);
    sum_over_steps(x, input_size, z, begin, end, sum_x);
    sum_over_steps(h, size_h, z, begin, end, sum_h);
    for (int64_t step = begin; step < end; ++step) {
      for (int64_t n = 0; n < panel_width; n += lanes) {
        store(load(sum + n) + load(z + step * panel_width + n), sum + n);
      }
    }
  }
  for (int64_t column = 0; column < panel_width; ++column) {
    const int64_t row = gate_row<T>(panel * panel_width + column, hidden_size);
    if (row < 0) {
      continue;
    }
    T* to_x = d_weight_ih.mutable_data_ptr<T>() + (d * kGates * hidden_size + row) * input_size;
    T* to_h = d_weight_hh.mutable_data_ptr<T>() + (d * kGates * hidden_size + row) * size_h;
    for (int64_t k = 0; k < input_size; ++k) {
      to_x[k] = sum_x[k * panel_width + column];
    }
    for (int64_t k = 0; k < size_h; ++k) {
      to_h[k] = sum_h[k * panel_width + column];
    }
    d_bias.mutable_data_ptr<T>()[d * kGates * hidden_size + row] = sum[column];
  }
}

// The gradient of W_hr, of one panel of its rows.
template <typename T>
void projection_gradients(
    const Tensor& unprojected, const Tensor& d_projected, int64_t d, int64_t panel,
    Tensor& d_weight_hr) {
  const int64_t steps = unprojected.size(1), width = unprojected.size(2);
  const int64_t size_h = d_weight_hr.size(1), hidden_size = d_weight_hr.size(2);
  const T* left = unprojected.const_data_ptr<T>() + d * steps * width;
  const T* right =
      d_projected.const_data_ptr<T>() + (d * d_projected.size(1) + panel) * steps * kWidth<T>;
  Tensor sums = at::zeros({width, kWidth<T>}, unprojected.options());
  T* sum = sums.mutable_data_ptr<T>();
  sum_over_steps(left, width, right, 0, steps, sum);
  const int64_t rows = std::min(kWidth<T>, size_h - panel * kWidth<T>);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t place = d * size_h + panel * kWidth<T> + row;
    for (int64_t k = 0; k < hidden_size; ++k) {
      d_weight_hr.mutable_data_ptr<T>()[place * hidden_size + k] = sum[k * kWidth<T> + row];
    }
  }
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename T>
Gradients backward(
    const Tensor& d_output, const Tensor& d_h_n, const Tensor& d_c_n, const Tensor& data,
    const Tensor& batch_sizes, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
    const Tensor& weight_hh, const std::optional<Tensor>& weight_hr, const Tensor& output,
    const Tensor& gates, const Tensor& cells, bool needs_data) {
  const Batch batch(batch_sizes);
  const int64_t directions = c_0.size(0), hidden_size = c_0.size(2), size_h = h_0.size(2);
  const int64_t width = padded(hidden_size), input_size = data.size(1), steps = batch.steps();
  const int64_t gate_panels = width / kLanes<T>;
  const int64_t projection_panels = weight_hr ? (size_h + kWidth<T> - 1) / kWidth<T> : 0;
  const auto options = data.options();

  std::vector<Panels<T>> w_ih, w_hh, w_hr;
  for (int64_t d = 0; d < directions; ++d) {
    const auto gates_panels = [&](const Tensor& weight, int64_t columns) {
      const T* w = weight.const_data_ptr<T>() + d * kGates * hidden_size * columns;
      return Panels<T>(options, kGates * width, columns, [=](int64_t k, int64_t column) {
        const int64_t row = gate_row<T>(k, hidden_size);
        return row < 0 ? T(0) : w[row * columns + column];
      });
    };
    w_hh.push_back(gates_panels(weight_hh, size_h));
    if (needs_data) {
      w_ih.push_back(gates_panels(weight_ih, input_size));
    }
    if (weight_hr) {
      const T* w = weight_hr->const_data_ptr<T>() + d * size_h * hidden_size;
      w_hr.emplace_back(options, size_h, width, [=](int64_t k, int64_t column) {
        return column < hidden_size ? w[k * hidden_size + column] : T(0);
      });
    }
  }

  Tensor d_h = d_h_n.defined() ? d_h_n.clone() : at::zeros_like(h_0);
  Tensor d_c = d_c_n.defined() ? d_c_n.clone() : at::zeros_like(c_0);
  Tensor d_z = empty_in_huge_pages({directions, gate_panels, steps, kWidth<T>}, options);
  Tensor h_previous = empty_in_huge_pages({directions, steps, size_h}, options);
  Tensor d_data, d_projected, unprojected;
  if (needs_data) {
    d_data = empty_in_huge_pages({directions, steps, input_size}, options);
  }
  if (weight_hr) {
    d_projected = at::zeros({directions, projection_panels, steps, kWidth<T>}, options);
    unprojected = at::empty({directions, steps, width}, options);
  }
  for_each_slice(
      directions, h_0.size(1),
      Backward<T>{
          batch, d_output, h_0, c_0, output, gates, cells, w_ih, w_hh, w_hr, d_h, d_c, d_z,
          h_previous, d_data, d_projected, unprojected});

  Tensor d_weight_ih = at::empty_like(weight_ih), d_weight_hh = at::empty_like(weight_hh);
  Tensor d_bias = at::empty({directions, kGates * hidden_size}, options);
  Tensor d_weight_hr = weight_hr ? at::empty_like(*weight_hr) : at::empty({0}, options);
  const int64_t panels = gate_panels + projection_panels;
  at::parallel_for(0, directions * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) {
      const int64_t d = number / panels, panel = number % panels;
      if (panel < gate_panels) {
        weight_gradients<T>(
            data, h_previous, d_z, d, panel, d_weight_ih, d_weight_hh, d_bias);
      } else {
        projection_gradients<T>(
            unprojected, d_projected, d, panel - gate_panels, d_weight_hr);
      }
    }
  });
  d_data = !needs_data ? at::empty({0}, options) : directions == 1 ? d_data[0] : d_data.sum(0);
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
