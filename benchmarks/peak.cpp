// How fast a core multiplies and adds: loops over registers, which read no memory.

#include <cstdint>

#include "vectors.h"

namespace attnlstm {

// Multiplies and adds in as many independent sums as a block of a product has. Returns the operations.
template <typename T>
int64_t multiply_vectors(int64_t rounds) {
  constexpr int count = kRows * kGates;
  const Vector<T> factor = in_register(Vector<T>{} + T(0.5));
  Vector<T> sums[count] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    unroll<count>([&](auto n) __attribute__((always_inline)) {
      sums[n] = in_register(sums[n] * factor + factor);
    });
  }
  volatile T result = 0;  // so that the compiler keeps the loop
  for (const Vector<T>& sum : sums) {
    result = result + sum[0];
  }
  return rounds * count * 2 * kLanes<T>;
}

// The same in bfloat16: by the matrix unit if there is one, by vectors if they can, or in float32.
int64_t multiply_bfloat16(int64_t rounds) {
#if defined(__AMX_BF16__)
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shapes;
  _tile_loadconfig(&shapes);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 6, 7);
    _tile_dpbf16ps(1, 6, 7);
    _tile_dpbf16ps(2, 6, 7);
    _tile_dpbf16ps(3, 6, 7);
  }
  _tile_release();
  return rounds * 4 * 2 * 16 * 16 * 32;
#elif defined(__AVX512BF16__)
  constexpr int count = kRows * kGates;
  const auto factor = _mm512_cvtne2ps_pbh(_mm512_setzero_ps(), _mm512_setzero_ps());
  Vector<float> sums[count] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    unroll<count>([&](auto n) __attribute__((always_inline)) {
      const auto sum = reinterpret_cast<__m512>(sums[n]);
      sums[n] = in_register(reinterpret_cast<Vector<float>>(_mm512_dpbf16_ps(sum, factor, factor)));
    });
  }
  volatile float result = 0;
  for (const Vector<float>& sum : sums) {
    result = result + sum[0];
  }
  return rounds * count * 4 * 16;
#else
  return multiply_vectors<float>(rounds);
#endif
}

}  // namespace attnlstm

extern "C" int64_t multiply_float32(int64_t rounds) {
  return attnlstm::multiply_vectors<float>(rounds);
}
extern "C" int64_t multiply_float64(int64_t rounds) {
  return attnlstm::multiply_vectors<double>(rounds);
}
extern "C" int64_t multiply_bfloat16(int64_t rounds) { return attnlstm::multiply_bfloat16(rounds); }
