// Products of rows with a packed matrix.
//
//     sums[m][n] = initial[m][n] + sum over k of left[m][k] * matrix[k][n]
//
// The matrix is packed into panels (panels.h). A panel is multiplied by blocks of up to kRows rows, whose sums
// stay in registers:
//
//     multiply          one block of rows and one panel
//     multiply_panel    all rows and one panel
//     multiply_gates    all rows and all panels of a matrix of gates
//     multiply_rows     all rows and all panels, into plain rows

#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "panels.h"
#include "schedule.h"
#include "vectors.h"

namespace attnlstm {

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
