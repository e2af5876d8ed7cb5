// The right sides of products: matrices packed into panels, each as wide as four vectors, so that a product
// reads memory from front to back.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "memory.h"
#include "vectors.h"

namespace attnlstm {

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

}  // namespace attnlstm
