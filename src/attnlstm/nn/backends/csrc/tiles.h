// Products of bfloat16 by the processor's matrix unit (AMX). It multiplies a tile of 16 rows by a tile of
// 16 columns, both 32 elements deep, and adds the product to a tile of 16 * 16 floats.
//
// This is so fast that the preparation takes longer, and tiles with fewer rows save nothing. Left sides are
// therefore copied into whole tiles, padded with zeros.

#pragma once

#ifdef __AMX_BF16__

#include <immintrin.h>

#include <atomic>

#include "products.h"

namespace attnlstm {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileDepth = kDepthStep<BFloat16>;

// Configures the unit for the current thread, with tiles of 16 rows of 64 bytes, for as long as the object
// lives.
template <>
struct ProductUnit<BFloat16> {
  ProductUnit() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shapes;
    _tile_loadconfig(&shapes);
  }
  ~ProductUnit() { _tile_release(); }
  ProductUnit(const ProductUnit&) = delete;
};

// Interleaves 16 columns of two rows into pairs: each 32-bit word has the even row's element in its low
// half and the odd row's in its high half. A nullptr stands for a row of zeros.
inline __m512i pair_rows(const BFloat16* even, const BFloat16* odd, __mmask16 columns) {
  const auto words = [columns](const BFloat16* row) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, row));
  };
  const __m512i low = even ? words(even) : _mm512_setzero_si512();
  return odd ? _mm512_or_si512(low, _mm512_slli_epi32(words(odd), 16)) : low;
}

template <>
inline void pack_rows(
    const BFloat16* const* rows, int64_t depth, int64_t begin, int64_t end, BFloat16* to) {
  for (int64_t k = 0; k < whole_steps<BFloat16>(depth); k += 2) {
    for (int64_t column = begin; column < begin + kWidth<BFloat16>; column += 16) {
      const auto row = [&](int64_t number) {
        return number < depth && rows[number] ? rows[number] + column : nullptr;
      };
      const int64_t rest = std::clamp<int64_t>(end - column, 0, 16);
      const __m512i pairs = pair_rows(row(k), row(k + 1), static_cast<__mmask16>((1 << rest) - 1));
      std::memcpy(to, &pairs, sizeof(pairs));
      to += 32;
    }
  }
}

// A left side [count, depth] that is copied into tiles [row / 16, depth / 32].
struct TileRows {
  struct alignas(64) Tile {
    BFloat16 rows[kTileRows][kTileDepth];
  };

  int64_t count, depth_tiles;
  std::vector<Tile> tiles;

  TileRows(int64_t count, int64_t depth)
      : count(count),
        depth_tiles(whole_steps<BFloat16>(depth) / kTileDepth),
        tiles((count + kTileRows - 1) / kTileRows * depth_tiles) {}

  Tile& at(int64_t row, int64_t k) { return tiles[row / kTileRows * depth_tiles + k / kTileDepth]; }
};

inline TileRows arrange(const Rows<BFloat16>& rows, int64_t depth) {
  TileRows left(rows.count, depth);
  for (int64_t row = 0; row < rows.count; ++row) {
    for (int64_t k = 0; k < depth; k += kTileDepth) {
      BFloat16* to = left.at(row, k).rows[row % kTileRows];
      const BFloat16* from = rows.from<1>(row, k).row[0] + k;
      if (k + kTileDepth <= depth) {
        std::memcpy(to, from, kTileDepth * sizeof(BFloat16));
      } else {
        std::memcpy(to, from, (depth - k) * sizeof(BFloat16));
      }
    }
  }
  return left;
}

inline TileRows arrange(const Columns<BFloat16>& columns, int64_t depth) {
  TileRows left(columns.count, depth);
  for (int64_t row = 0; row < columns.count; row += kTileRows) {
    const int64_t rest = std::min(kTileRows, columns.count - row);
    const __mmask16 mask = static_cast<__mmask16>((1 << rest) - 1);
    for (int64_t k = 0; k < depth; k += kTileDepth) {
      const auto step = [&](int64_t number) {
        return number < depth ? columns.first[number] + row : nullptr;
      };
      __m512i pairs[16];
      for (int64_t pair = 0; pair < 16; ++pair) {
        pairs[pair] = pair_rows(step(k + 2 * pair), step(k + 2 * pair + 1), mask);
      }
      transpose(pairs);
      std::memcpy(&left.at(row, k), pairs, sizeof(pairs));
    }
  }
  return left;
}

// Copies the rows [depth, 4 vectors] of a panel into pairs [depth / 2, 4 vectors, 2].
inline const BFloat16* arrange_panel(const BFloat16* panel, int64_t depth) {
  struct alignas(64) Pairs {
    __m512i columns[kGates];
  };
  thread_local std::vector<Pairs> pairs;
  pairs.resize(whole_steps<BFloat16>(depth) / 2);
  for (int64_t pair = 0; pair < static_cast<int64_t>(pairs.size()); ++pair) {
    const auto row = [&](int64_t number, int64_t gate) {
      return number < depth ? panel + number * kWidth<BFloat16> + gate * 16 : nullptr;
    };
    for (int64_t gate = 0; gate < kGates; ++gate) {
      pairs[pair].columns[gate] = pair_rows(row(2 * pair, gate), row(2 * pair + 1, gate), 0xffff);
    }
  }
  return reinterpret_cast<const BFloat16*>(pairs.data());
}

template <int N, typename Initial, typename Finish>
void multiply_panel(
    const TileRows& left, const BFloat16* panel, int64_t, Initial initial, Finish finish) {
  constexpr int64_t bytes = kGates * 16 * 4;  // of a row of pairs in a panel
  for (int64_t row = 0; row < left.count; row += kTileRows) {
    const TileRows::Tile* tile = &left.tiles[row / kTileRows * left.depth_tiles];
    const BFloat16* right = panel;
    // The compiler does not know that tiles read and write memory: it must not move stores past this line.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < left.depth_tiles; ++k) {
      _tile_loadd(4, tile++, 64);
      _tile_loadd(5, right, bytes);
      _tile_dpbf16ps(0, 4, 5);
      if constexpr (N > 1) {
        _tile_loadd(6, right + 32, bytes);
        _tile_dpbf16ps(1, 4, 6);
      }
      if constexpr (N > 2) {
        _tile_loadd(7, right + 64, bytes);
        _tile_dpbf16ps(2, 4, 7);
      }
      if constexpr (N > 3) {
        _tile_loadd(5, right + 96, bytes);
        _tile_dpbf16ps(3, 4, 5);
      }
      right += kTileDepth * kWidth<BFloat16>;
    }
    Vector<float> sums[kTileRows][N];
    _tile_stored(0, &sums[0][0], sizeof(sums[0]));
    if constexpr (N > 1) {
      _tile_stored(1, &sums[0][1], sizeof(sums[0]));
    }
    if constexpr (N > 2) {
      _tile_stored(2, &sums[0][2], sizeof(sums[0]));
    }
    if constexpr (N > 3) {
      _tile_stored(3, &sums[0][3], sizeof(sums[0]));
    }
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const int count = std::min(kTileRows, left.count - row);
    if constexpr (!std::is_same_v<Initial, Zeros>) {
      for (int m = 0; m < count; ++m) {
        for (int n = 0; n < N; ++n) {
          sums[m][n] += load(initial(row + m) + n * kLanes<BFloat16>);
        }
      }
    }
    finish(row, sums, count);
  }
}

}  // namespace attnlstm

#endif
