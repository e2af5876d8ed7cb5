// Vectors, and the activations of the gates on them.
//
// A vector holds kLanes elements and fills one register. Its type is the vector extension of GCC and
// Clang, on which +, - and * act on all lanes at once, so that formulas look the same as for scalars.
// bfloat16 is only a storage format: it is loaded as float32, and rounded when it is stored.

#pragma once

#include <ATen/OpMathType.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

namespace attnlstm {

using at::BFloat16;

// The type that T is computed in: float for bfloat16, else T itself.
template <typename T>
using Real = at::opmath_type<T>;

constexpr int64_t kGates = 4;

#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64;
constexpr int kRows = 6;  // the rows of a block of a product: 6 * 4 sums and 5 operands, 32 registers
#elif defined(__AVX__)
constexpr int64_t kVectorBytes = 32;
constexpr int kRows = 2;  // there are 16 registers
#else
constexpr int64_t kVectorBytes = 16;
constexpr int kRows = 2;
#endif

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vector = typename VectorOf<Real<T>>::type;

template <typename T>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(Real<T>));

template <typename T>
constexpr int64_t kWidth = kGates * kLanes<T>;  // the columns of a panel; see panels.h

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

#ifdef __AVX512BF16__
inline Vector<float> load(const BFloat16* from) {
  return _mm512_cvtpbh_ps(
      reinterpret_cast<__m256bh>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}

inline void store(const Vector<float>& values, BFloat16* to) {
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}
#endif

// Loads `rest` elements, at most a whole vector; the other lanes are 0.
template <typename T>
inline Vector<T> load(const T* from, int64_t rest) {
  if (rest >= kLanes<T>) {
    return load(from);
  }
  T elements[kLanes<T>] = {};
  std::memcpy(elements, from, rest * sizeof(T));
  return load(elements);
}

// Stores the first `rest` lanes, at most a whole vector.
template <typename T>
inline void store(const Vector<T>& values, T* to, int64_t rest) {
  if (rest >= kLanes<T>) {
    store(values, to);
  } else if (rest > 0) {
    T elements[kLanes<T>];
    store(values, elements);
    std::memcpy(to, elements, rest * sizeof(T));
  }
}

// Returns a vector with all lanes after the first `rest` set to 0.
template <typename T>
inline Vector<T> first_lanes(const Vector<T>& values, int64_t rest) {
  Real<T> elements[kLanes<T>];
  store(values, elements);
  return load(elements, std::max<int64_t>(rest, 0));
}

#ifdef __AVX512BW__
// Transposes 16 rows of 16 words in place. For each bit of the row number, every pair of rows that differ
// in this bit alone exchanges the words off the diagonal: those whose place has the other row's bit.
inline void transpose(__m512i (&rows)[16]) {
  const __m512i places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (int bit = 1; bit < 16; bit *= 2) {
    const __m512i mask = _mm512_set1_epi32(bit), second = _mm512_set1_epi32(16);
    const __mmask16 is_set = _mm512_test_epi32_mask(places, mask);
    const __m512i low = _mm512_mask_add_epi32(places, is_set, _mm512_sub_epi32(places, mask), second);
    const __m512i high =
        _mm512_mask_add_epi32(_mm512_add_epi32(places, mask), is_set, places, second);
    for (int row = 0; row < 16; ++row) {
      if ((row & bit) == 0) {
        const __m512i a = rows[row], b = rows[row + bit];
        rows[row] = _mm512_permutex2var_epi32(a, low, b);
        rows[row + bit] = _mm512_permutex2var_epi32(a, high, b);
      }
    }
  }
}
#endif

// Calls work(0), work(1), ... with compile-time constants. The compiler keeps an array of vectors in
// registers only if it is indexed by constants; one that a loop indexes is kept in memory, even if the
// loop is unrolled.
template <typename Work, int... I>
[[gnu::always_inline]] inline void unroll(std::integer_sequence<int, I...>, Work& work) {
  (work(std::integral_constant<int, I>()), ...);
}

template <int Count, typename Work>
[[gnu::always_inline]] inline void unroll(Work work) {
  unroll(std::make_integer_sequence<int, Count>(), work);
}

// Returns the vector, and makes the compiler hold it in a register. GCC would otherwise read it from memory
// at each use. This takes fewer instructions, but they wait for the reads.
template <typename V>
[[gnu::always_inline]] inline V in_register(V vector) {
#ifdef __x86_64__
  asm("" : "+v"(vector));
#endif
  return vector;
}

// ---------------------------------------------------------------------------------------------
// Activations
// ---------------------------------------------------------------------------------------------

// Both activations come from one exponential. With fused multiply-add they are accurate to 6 units in the last
// place for every x. In saturation they are exactly 0, 1 or -1, so that a cell keeps its state over any number
// of steps, and small gates keep all their digits.

using Bits = typename VectorOf<int32_t>::type;  // of a Vector<float>

// Replaces numbers above the bound by it; NaN stays NaN.
inline Vector<float> at_most(Vector<float> x, float bound) {
  const Vector<float> limit = Vector<float>{} + bound;
#ifdef __AVX512F__
  // If either operand is NaN, the instruction returns the second one.
  return reinterpret_cast<Vector<float>>(
      _mm512_min_ps(reinterpret_cast<__m512>(limit), reinterpret_cast<__m512>(x)));
#else
  return limit < x ? limit : x;
#endif
}

// Returns 1 / x, accurate to one unit in the last place.
inline Vector<float> inverse(Vector<float> x) {
#ifdef __AVX512F__
  // One step of Newton's method from a 14-bit estimate takes a quarter of the time of a division.
  const auto guess = reinterpret_cast<Vector<float>>(_mm512_rcp14_ps(reinterpret_cast<__m512>(x)));
  return guess + guess * (1.f - x * guess);
#else
  return 1.f / x;
#endif
}

// exp(x) = scale * (1 + excess). The parts are kept apart for exp(x) - 1, which would lose digits near 0.
struct Exponential {
  Vector<float> scale, excess;
};

// For |x| < 88. Let n be the whole number nearest to x / ln 2, and r = x - n ln 2. The scale is 2^n. The excess
// exp(r) - 1 comes from a polynomial of degree 6 with a relative error below 2e-8 for |r| <= ln 2 / 2.
inline Exponential exponential(Vector<float> x) {
  // Adding this rounds to a whole number, and leaves the exponent bits of 2^n at the lower end.
  constexpr float rounder = 0x1.8p23f + 127;
  const Vector<float> rounded = x * 0x1.715476p0f + rounder;
  const Vector<float> n = rounded - rounder, r = x - n * 0x1.62e43p-1f, r2 = r * r;
  const Vector<float> low = r * 0x1.5554aep-3f + 0x1.fffffep-2f;
  const Vector<float> high = r * 0x1.122886p-7f + 0x1.555676p-5f;
  const Vector<float> q = (r2 * 0x1.6bebdcp-10f + high) * r2 + low;
  const Bits scale = reinterpret_cast<Bits>(rounded) << 23;
  return {reinterpret_cast<Vector<float>>(scale), q * r2 + r};
}

// sigmoid(x) = 1 / (1 + exp(-x)); numbers too small for the normal range of floats become 0.
inline Vector<float> sigmoid(Vector<float> x) {
  const auto [scale, excess] = exponential(-at_most(x, 80));
  const Vector<float> value = inverse(1.f + scale + scale * excess);
  return x < -87.3f ? Vector<float>{} : value;
}

// tanh(|x|) = (1 - exp(-2 |x|)) / (1 + exp(-2 |x|)), with the sign of x.
inline Vector<float> tanh(Vector<float> x) {
  const Bits bits = reinterpret_cast<Bits>(x);
  const auto size = reinterpret_cast<Vector<float>>(bits & INT32_MAX);
  const auto [scale, excess] = exponential(-2.f * at_most(size, 10));
  const Vector<float> numerator = (1.f - scale) - scale * excess;
  const Vector<float> value = numerator * inverse(2.f - numerator);
  return reinterpret_cast<Vector<float>>(reinterpret_cast<Bits>(value) | (bits & INT32_MIN));
}

inline Vector<double> sigmoid(Vector<double> x) {
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = 1 / (1 + std::exp(-x[lane]));
  }
  return x;
}

inline Vector<double> tanh(Vector<double> x) {
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = std::tanh(x[lane]);
  }
  return x;
}

// Applies the activations of the gates in place: sigmoid to i, f and o, tanh to g.
template <typename V>
inline void activate(V (&z)[kGates]) {
  for (const int gate : {0, 1, 3}) {
    z[gate] = sigmoid(z[gate]);
  }
  z[2] = tanh(z[2]);
}

}  // namespace attnlstm
