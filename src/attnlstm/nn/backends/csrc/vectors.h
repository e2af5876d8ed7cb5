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
constexpr int64_t kWidth = kGates * kLanes<T>;  // the columns of a panel; see products.h

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

// tanh(s x) = x p(x^2) / q(x^2), the rational approximation of Eigen and XLA, whose error is below 4e-7.
// Numerator and denominator are kept apart, so that several tanh can share one slow division. The scale
// s = 1/2 of sigmoid(x) = 1/2 + 1/2 tanh(x / 2) is a factor of the coefficients, which does not round them.
struct Fraction {
  Vector<float> numerator, denominator;
};

// Limits x to [-bound, bound]; NaN stays NaN.
inline Vector<float> clamp(Vector<float> x, float bound) {
  const Vector<float> high = Vector<float>{} + bound;
#ifdef __AVX512F__
  // If either operand is NaN, the instruction returns the second one.
  const __m512 below = _mm512_min_ps(reinterpret_cast<__m512>(high), reinterpret_cast<__m512>(x));
  return reinterpret_cast<Vector<float>>(_mm512_max_ps(reinterpret_cast<__m512>(-high), below));
#else
  x = high < x ? high : x;
  return -high > x ? -high : x;
#endif
}

// Replaces negative numbers, which rounding may leave of a sigmoid, by 0; NaN stays NaN.
inline Vector<float> at_least_zero(Vector<float> x) {
#ifdef __AVX512F__
  return reinterpret_cast<Vector<float>>(
      _mm512_max_ps(_mm512_setzero_ps(), reinterpret_cast<__m512>(x)));
#else
  return x < 0.f ? Vector<float>{} : x;
#endif
}

// Returns 1 / x, accurate to one unit in the last place.
inline Vector<float> inverse(Vector<float> x) {
#ifdef __AVX512F__
  // One step of Newton's method from a 14-bit estimate takes a quarter of the time of a division.
  const auto guess = reinterpret_cast<Vector<float>>(_mm512_rcp14_ps(reinterpret_cast<__m512>(x)));
  return guess * (2.f - x * guess);
#else
  return 1.f / x;
#endif
}

template <int inverse_scale>
inline Fraction tanh_fraction(Vector<float> x) {
  constexpr float s = 1.f / inverse_scale, s2 = s * s, s4 = s2 * s2, s6 = s4 * s2, s8 = s4 * s4;
  constexpr float bound = 7.90531110763549805f * inverse_scale;
  x = clamp(x, bound);
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
  return t.numerator * inverse(t.denominator);
}

inline Vector<double> tanh(Vector<double> x) {
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = std::tanh(x[lane]);
  }
  return x;
}

// Applies the activations of the gates in place: sigmoid(z) = (1 + tanh(z / 2)) / 2 to i, f and o, tanh
// to g.
inline void activate(Vector<float> (&z)[kGates]) {
  const Fraction i = tanh_fraction<2>(z[0]);
  const Fraction f = tanh_fraction<2>(z[1]);
  const Fraction g = tanh_fraction<1>(z[2]);
  const Fraction o = tanh_fraction<2>(z[3]);
  // One division serves all four, because 1 / a = b / (a b).
  const Vector<float> i_f = i.denominator * f.denominator;
  const Vector<float> g_o = g.denominator * o.denominator;
  const Vector<float> inverse_of_all = inverse(i_f * g_o);
  const Vector<float> half_inverse_i_f = inverse_of_all * (0.5f * g_o);
  const Vector<float> inverse_g_o = inverse_of_all * i_f;
  z[0] = at_least_zero(i.numerator * (f.denominator * half_inverse_i_f) + 0.5f);
  z[1] = at_least_zero(f.numerator * (i.denominator * half_inverse_i_f) + 0.5f);
  z[2] = g.numerator * (o.denominator * inverse_g_o);
  z[3] = at_least_zero(o.numerator * (0.5f * g.denominator * inverse_g_o) + 0.5f);
}

inline void activate(Vector<double> (&z)[kGates]) {
  for (const int gate : {0, 1, 3}) {
    z[gate] = tanh(z[gate] * 0.5) * 0.5 + 0.5;
  }
  z[2] = tanh(z[2]);
}

}  // namespace attnlstm
