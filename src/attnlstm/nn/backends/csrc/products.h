// Products of rows with a packed matrix.
//
//     sums[m][n] = initial[m][n] + sum over k of left[m][k] * matrix[k][n]
//
// The matrix is packed into panels, each as wide as four vectors, so that a product reads memory from front
// to back. A panel is multiplied by blocks of up to kRows rows, whose sums stay in registers:
//
//     multiply          one block of rows and one panel
//     multiply_panel    all rows and one panel
//     multiply_gates    all rows and all panels of a matrix of gates
//     multiply_rows     all rows and all panels, into plain rows

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "memory.h"
#include "schedule.h"
#include "vectors.h"

namespace attnlstm {

using at::Tensor;

// Products of float and double go through the depth by single elements. Those of bfloat16 (tiles.h) read
// pairs of elements (kPack), and 16 pairs at a time (kDepthStep).
template <typename T>
constexpr int64_t kPack = 1;
template <>
constexpr int64_t kPack<BFloat16> = 2;
template <typename T>
constexpr int64_t kDepthStep = 1;
template <>
constexpr int64_t kDepthStep<BFloat16> = 32;

// Rounds a depth up to whole steps.
template <typename T>
inline int64_t whole_steps(int64_t depth) {
  return (depth + kDepthStep<T> - 1) / kDepthStep<T> * kDepthStep<T>;
}

// Packs a panel from the columns that begin at these places: element (k, column) of the panel is element k
// of the column.
template <typename T>
void pack_columns(const T* const* columns, int64_t depth, T* to) {
#ifdef __AVX512BW__
  if constexpr (sizeof(T) * kPack<T> == 4) {  // by blocks of 16 columns of 16 words
    const int64_t words = whole_steps<T>(depth) / kPack<T>;
    for (int64_t column = 0; column < kWidth<T>; column += 16) {
      for (int64_t word = 0; word < words; word += 16) {
        const int64_t bytes = depth * int64_t(sizeof(T)) - word * 4;
        const __mmask64 is_there = bytes >= 64 ? ~0ull : bytes <= 0 ? 0 : (1ull << bytes) - 1;
        __m512i block[16];
        for (int64_t number = 0; number < 16; ++number) {
          block[number] =
              _mm512_maskz_loadu_epi8(is_there, columns[column + number] + word * kPack<T>);
        }
        transpose(block);
        for (int64_t number = 0; number < std::min<int64_t>(16, words - word); ++number) {
          T* row = to + ((word + number) * kWidth<T> + column) * kPack<T>;
          _mm512_storeu_si512(row, block[number]);
        }
      }
    }
    return;
  }
#endif
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t column = 0; column < kWidth<T>; ++column) {
      *to++ = columns[column][k];
    }
  }
}

// Packs a panel from the rows that begin at these places. The panel takes their columns from `begin` up to
// `end`, at most 4 vectors; a nullptr stands for a row of zeros.
template <typename T>
void pack_rows(const T* const* rows, int64_t depth, int64_t begin, int64_t end, T* to) {
  for (int64_t k = 0; k < depth; ++k, to += kWidth<T>) {
    const int64_t size = rows[k] ? std::min(kWidth<T>, end - begin) : 0;
    std::copy_n(rows[k] + begin, size, to);
    std::fill_n(to + size, kWidth<T> - size, T(0));
  }
}

template <typename T>
int64_t count_panels(int64_t columns) {
  return (columns + kWidth<T> - 1) / kWidth<T>;
}

// A matrix [depth, columns] in panels [panel, depth, 4 vectors], or of pairs
// [panel, depth / 2, 4 vectors, 2], padded with zeros.
template <typename T>
struct Panels {
  int64_t depth, columns;
  int64_t panel_size = whole_steps<T>(depth) * kWidth<T>;
  Tensor storage;
  int64_t first = 0;  // where this matrix begins in each panel

  // Packs matrices one below the other. Each is given by its depth and by where its columns begin; a
  // nullptr stands for a column of zeros.
  static Panels of_columns(
      const at::TensorOptions& options,
      std::vector<std::pair<int64_t, std::vector<const T*>>> parts) {
    int64_t depth = 0;
    for (const auto& part : parts) {
      depth += whole_steps<T>(part.first);
    }
    const std::vector<T> zeros(depth);
    Panels panels(options, depth, parts[0].second.size());
    for (auto& [_, part] : parts) {
      std::replace(part.begin(), part.end(), static_cast<const T*>(nullptr), zeros.data());
      part.resize(panels.count() * kWidth<T>, zeros.data());
    }
    panels.fill([&](int64_t panel, T* to) {
      for (const auto& [part_depth, part] : parts) {
        pack_columns(part.data() + panel * kWidth<T>, part_depth, to);
        to += whole_steps<T>(part_depth) * kWidth<T>;
      }
    });
    return panels;
  }

  // Returns the matrix of only some of the rows; it shares the memory.
  Panels part(int64_t begin, int64_t part_depth) const {
    Panels result = *this;
    result.depth = part_depth;
    result.first = whole_steps<T>(begin) * kWidth<T>;
    return result;
  }

  // Packs the matrix whose rows of `columns` elements begin at these places; a nullptr stands for a row of
  // zeros.
  static Panels of_rows(
      const at::TensorOptions& options, const std::vector<const T*>& rows, int64_t columns) {
    Panels panels(options, rows.size(), columns);
    panels.fill([&](int64_t panel, T* to) {
      pack_rows(rows.data(), panels.depth, panel * kWidth<T>, columns, to);
    });
    return panels;
  }

  int64_t count() const { return count_panels<T>(columns); }
  const T* panel(int64_t number) const {
    return storage.const_data_ptr<T>() + number * panel_size + first;
  }
  int64_t bytes() const { return count() * whole_steps<T>(depth) * kWidth<T> * int64_t(sizeof(T)); }
  // The number of vectors of a panel that are not only padding.
  int64_t vectors(int64_t panel) const {
    const int64_t rest = columns - panel * kWidth<T>;
    return rest >= kWidth<T> ? kGates : (rest + kLanes<T> - 1) / kLanes<T>;
  }

 private:
  Panels(const at::TensorOptions& options, int64_t depth, int64_t columns)
      : depth(depth), columns(columns), storage(empty({count(), panel_size}, options)) {}

  template <typename Fill>
  void fill(Fill fill) {
    T* out = storage.mutable_data_ptr<T>();
    at::parallel_for(0, count(), 1 + 32768 / (panel_size + 1), [&](auto begin, auto end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        fill(panel, out + panel * panel_size);
      }
    });
  }
};

// A left side of a product. Element (m, k) is element k of row m. Rows are contiguous, or consist of
// segments of `segment` elements that begin `stride` elements apart. A Block is M of its rows, up to the
// `end` of the segment that holds k.
template <typename T>
struct Rows {
  const T* const* first;
  int64_t count;
  int64_t segment = std::numeric_limits<int64_t>::max();
  int64_t stride = 0;

  template <int M>
  struct Block {
    const T* row[M];
    int64_t end;
    T operator()(int m, int64_t k) const { return row[m][k]; }
  };

  template <int M>
  [[gnu::always_inline]] Block<M> from(int64_t number, int64_t k) const {
    const int64_t passed = k < segment ? 0 : k / segment;
    Block<M> block;
    unroll<M>([&](auto m) __attribute__((always_inline)) {
      block.row[m] = first[number + m] + passed * (stride - segment);
    });
    block.end = passed == 0 ? segment : (passed + 1) * segment;
    return block;
  }
};

// A left side whose rows have their first `split` elements in one place and the others in another.
template <typename T>
struct JoinedRows {
  const T* const* first;
  const T* const* second;
  int64_t split;
  int64_t count;

  template <int M>
  [[gnu::always_inline]] typename Rows<T>::template Block<M> from(int64_t number, int64_t k) const {
    const bool is_first = k < split;
    typename Rows<T>::template Block<M> block;
    unroll<M>([&](auto m) __attribute__((always_inline)) {
      block.row[m] = is_first ? first[number + m] : second[number + m] - split;
    });
    block.end = is_first ? split : std::numeric_limits<int64_t>::max();
    return block;
  }
};

// A transposed left side: element (m, k) is element m of row k.
template <typename T>
struct Columns {
  const T* const* first;
  int64_t count;

  template <int M>
  struct Block {
    const T* const* first;
    int64_t number;
    int64_t end;
    T operator()(int m, int64_t k) const { return first[k][number + m]; }
  };

  template <int M>
  [[gnu::always_inline]] Block<M> from(int64_t number, int64_t) const {
    return {first, number, std::numeric_limits<int64_t>::max()};
  }
};

// Multiplies M rows of the left side, from row `number` on, by N vectors of a panel, for k from `begin` to
// `end`, and adds initial(m, n). With `prefetches`, it requests the panel early enough for it to arrive
// from the second-level cache or from memory.
template <int M, int N, typename T, typename Left, typename Initial>
inline void multiply(
    const Left& left, int64_t number, const T* panel, int64_t begin, int64_t end, bool prefetches,
    Initial initial, Vector<T> (&sums)[M][N]) {
  constexpr int64_t ahead = 8;
  Vector<T> local[M][N], right[N];
  unroll<M>([&](auto m) __attribute__((always_inline)) {
    unroll<N>([&](auto n) __attribute__((always_inline)) { local[m][n] = initial(m, n); });
  });
  for (int64_t k = begin; k < end;) {
    const auto block = left.template from<M>(number, k);
    for (const int64_t stop = std::min(end, block.end); k < stop; ++k) {
      unroll<N>([&](auto n) __attribute__((always_inline)) {
        right[n] = in_register(load(panel + k * kWidth<T> + n * kLanes<T>));
        if (prefetches) {
          __builtin_prefetch(panel + (k + ahead) * kWidth<T> + n * kLanes<T>);
        }
      });
      unroll<M>([&](auto m) __attribute__((always_inline)) {
        const Vector<T> element = block(m, k) - Vector<T>{};
        unroll<N>([&](auto n) __attribute__((always_inline)) { local[m][n] += element * right[n]; });
      });
    }
  }
  unroll<M>([&](auto m) __attribute__((always_inline)) {
    unroll<N>([&](auto n) __attribute__((always_inline)) { sums[m][n] = local[m][n]; });
  });
}

// The initial value of a product that is not added to anything.
struct Zeros {};

// The depth of a panel that stays in the first-level cache while all rows are multiplied by it.
template <typename T>
constexpr int64_t kDepth = 32 * 1024 / (kWidth<T> * int64_t(sizeof(T)));

// Multiplies all rows by one panel, and adds the N vectors at initial(row) to each row. Calls
// finish(row, sums, count) with the sums of `count` rows from `row` on, while they are in the cache.
template <int N, typename T, typename Left, typename Initial, typename Finish>
void multiply_panel(
    const Left& left, const T* panel, int64_t depth, Initial initial, Finish finish) {
  thread_local std::vector<Vector<T>> unfinished;  // the sums between two parts of the depth
  if (depth > kDepth<T>) {
    unfinished.resize(std::max<size_t>(unfinished.size(), left.count * N));
  }
  int64_t begin = 0;
  do {
    const int64_t end = std::min(depth, begin + kDepth<T>);
    const auto block = [&]<int M>(int64_t row) {
      Vector<T> sums[M][N];
      const Real<T>* from[M];
      unroll<M>([&](auto m) __attribute__((always_inline)) {
        if (begin > 0) {
          from[m] = reinterpret_cast<const Real<T>*>(&unfinished[(row + m) * N]);
        } else if constexpr (!std::is_same_v<Initial, Zeros>) {
          from[m] = initial(row + m);
        }
      });
      const bool adds = begin > 0 || !std::is_same_v<Initial, Zeros>;
      const auto initially = [&](auto m, auto n) __attribute__((always_inline)) {
        return adds ? load(from[m] + n * kLanes<T>) : Vector<T>{};
      };
      // Only the first rows prefetch; the others find the panel in the first-level cache.
      multiply<M, N>(left, row, panel, begin, end, row == 0, initially, sums);
      if (end == depth) {
        finish(row, sums, M);
      } else {
        std::copy_n(sums[0], M * N, &unfinished[row * N]);
      }
    };
    // Blocks are of about equal size: seven rows are faster as four and three than as six and one.
    int64_t row = 0;
    for (int64_t blocks = (left.count + kRows - 1) / kRows; blocks > 0; --blocks) {
      const int64_t size = (left.count - row + blocks - 1) / blocks;
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

// How a thread prepares for products, and how the sides of a product are arranged beforehand. Float and
// double need no preparation; tiles.h defines it for bfloat16.
template <typename T>
struct ProductUnit {
  ProductUnit() {}
};

template <typename Left>
const Left& arrange(const Left& left, int64_t /*depth*/) {
  return left;
}

template <typename T>
const T* arrange_panel(const T* panel, int64_t /*depth*/) {
  return panel;
}

// Turns initial(row, panel) into initial(row) for one panel.
template <typename Initial>
auto initial_of_panel(Initial initial, int64_t panel) {
  return [=](int64_t row) { return initial(row, panel); };
}

inline Zeros initial_of_panel(Zeros zeros, int64_t /*panel*/) { return zeros; }

// Multiplies rows [count, depth] by the team's panels of a matrix of gates, and adds initial(row, panel).
// Each panel holds the four gates of one vector of hidden units, so that finish(row, panel, gates) has all
// that the cell's formulas need.
template <typename Rows, typename T, typename Initial, typename Finish>
void multiply_gates(
    const Rows& rows, const Panels<T>& matrix, const Team& team, Initial initial, Finish finish) {
  const auto& left = arrange(rows, matrix.depth);
  for (int64_t panel = team.begin(matrix.count()); panel < team.end(matrix.count()); ++panel) {
    multiply_panel<kGates>(
        left, matrix.panel(panel), matrix.depth, initial_of_panel(initial, panel),
        [&](int64_t row, auto* sums, int count) __attribute__((noinline)) {
          for (int m = 0; m < count; ++m) {
            finish(row + m, panel, sums[m]);
          }
        });
  }
}

// Multiplies rows [count, depth] by the team's panels of a matrix, and writes the rows `out` of
// matrix.columns elements.
template <typename T, typename Out>
void multiply_rows(
    const Rows<T>& rows, const Panels<T>& matrix, const Team& team, Out* const* out) {
  const auto& left = arrange(rows, matrix.depth);
  const auto multiply_vectors = [&]<int N>(int64_t panel) {
    const int64_t column = panel * kWidth<T>;
    multiply_panel<N>(
        left, matrix.panel(panel), matrix.depth, Zeros(),
        [&](int64_t row, auto* sums, int count) {
          for (int m = 0; m < count; ++m) {
            for (int64_t n = 0; n < N; ++n) {
              const int64_t first = column + n * kLanes<T>;
              store(sums[m][n], out[row + m] + first, matrix.columns - first);
            }
          }
        });
  };
  for (int64_t panel = team.begin(matrix.count()); panel < team.end(matrix.count()); ++panel) {
    switch (matrix.vectors(panel)) {
      case 1: multiply_vectors.template operator()<1>(panel); break;
      case 2: multiply_vectors.template operator()<2>(panel); break;
      case 3: multiply_vectors.template operator()<3>(panel); break;
      default: multiply_vectors.template operator()<4>(panel);
    }
  }
}

}  // namespace attnlstm
