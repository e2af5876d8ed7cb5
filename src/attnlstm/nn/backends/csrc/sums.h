// Sums over all time steps, such as dW_hh = sum of dz_t h_{t-1}: the gradients of the weights.
//
// A sum is a matrix product whose depth is the number of steps. It runs in parts of some steps each, and
// the sums stay in the second-level cache from one part to the next. The panels of dz are distributed over
// the threads; the order of the additions is always the same.

#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "memory.h"
#include "products.h"
#include "schedule.h"
#include "tiles.h"

namespace attnlstm {

// The left sides of a part and the sums of a task may each take this many bytes, so that they stay in the
// second-level cache.
constexpr int64_t kSumsBytes = 512 * 1024;

// The number of steps that are multiplied at a time: as many as fit into the first-level cache, or more
// where multiplication is much faster than reading and writing sums.
template <typename T>
constexpr int64_t kStepsAtOnce = kDepth<T>;
template <>
constexpr int64_t kStepsAtOnce<BFloat16> = 512;

// The left side of a sum over all steps, and the gradient that the sum is for.
template <typename T>
struct Left {
  const T* const* first;  // where the row of each step begins
  int64_t size;           // of a row
  T* const* rows;         // the row of the gradient for each column of the panels; nullptr is padding
};

// Computes the sums over all steps of left[step]^T panel[step] for `count` consecutive panels
// [step, 4 vectors]. A task for advance_all.
template <typename T>
struct SumOverSteps {
  std::vector<Left<T>> lefts;
  const T* panels;
  int64_t count, steps;
  at::TensorOptions options;  // for the sums

  int64_t done = 0;  // the number of steps that are summed
  Tensor sums;       // [panel, left, 4 vectors]
  bool is_finished = false;

  int64_t remaining() const { return (steps - done) * count + !is_finished; }

  void advance() {
    const ProductUnit<T> unit_of_products;
    constexpr int64_t steps_at_once = kStepsAtOnce<T>;
    int64_t size = 0;
    for (const auto& left : lefts) {
      size += left.size;
    }
    if (!sums.defined()) {
      sums = steps > 0 ? empty({count, size, kWidth<T>}, options)
                       : zeros({count, size, kWidth<T>}, options);
    }
    const int64_t fitting = kSumsBytes / (size * int64_t(sizeof(T)));
    const int64_t part = std::max<int64_t>(1, std::min(fitting, steps / kParts) / steps_at_once);
    const int64_t end = std::min(steps, done + part * steps_at_once);

    using Arranged = std::decay_t<decltype(arrange(Columns<T>{}, 0))>;
    std::vector<Arranged> arranged;
    for (int64_t begin = done; begin < end; begin += steps_at_once) {
      for (const auto& left : lefts) {
        arranged.push_back(arrange(
            Columns<T>{left.first + begin, left.size}, std::min(end - begin, steps_at_once)));
      }
    }
    for (int64_t panel = 0; panel < count; ++panel) {
      auto left = arranged.begin();
      for (int64_t begin = done; begin < end; begin += steps_at_once) {
        const int64_t depth = std::min(end - begin, steps_at_once);
        const T* right = arrange_panel(panels + (panel * steps + begin) * kWidth<T>, depth);
        Real<T>* sum = sums.mutable_data_ptr<Real<T>>() + panel * size * kWidth<T>;
        for (size_t number = 0; number < lefts.size(); ++number, ++left) {
          multiply_panel<kGates>(
              *left, right, depth, Zeros(), [&](int64_t row, auto* products, int rows) {
                Real<T>* to = sum + row * kWidth<T>;
                for (int64_t n = 0; n < rows * kGates; ++n, to += kLanes<T>) {
                  store(begin == 0 ? products[0][n] : load(to) + products[0][n], to);
                }
              });
          sum += left->count * kWidth<T>;
        }
      }
    }
    done = end;
    if (done == steps) {
      finish();
    }
  }

 private:
  // Transposes the sums into the gradients.
  void finish() {
    constexpr int64_t block = 64;  // the rows of sums that stay in the first-level cache
    int64_t first_left = 0;
    for (const auto& left : lefts) {
      for (int64_t panel = 0; panel < count; ++panel) {
        const Real<T>* from =
            sums.const_data_ptr<Real<T>>() + (panel * sums.size(1) + first_left) * kWidth<T>;
        for (int64_t begin = 0; begin < left.size; begin += block) {
          for (int64_t column = 0; column < kWidth<T>; ++column) {
            T* to = left.rows[panel * kWidth<T> + column];
            for (int64_t k = begin; to && k < std::min(left.size, begin + block); ++k) {
              to[k] = from[k * kWidth<T> + column];
            }
          }
        }
      }
      first_left += left.size;
    }
    is_finished = true;
  }
};

// Returns how many of a direction's panels make one task: few enough that their sums stay in the cache and
// that there are at least two tasks for each thread. In bfloat16 the left sides are copied for every task,
// and copying them less often is worth more.
template <typename T>
int64_t panels_of_task(
    int64_t directions, int64_t panels, int64_t left_size, int64_t steps) {
  const int64_t bytes = directions * panels * steps * kWidth<T> * int64_t(sizeof(T));
  const int64_t tasks = count_threads() * (kPack<T> > 1 || bytes <= kBalancedBytes ? 1 : 2);
  const int64_t per_task = std::max<int64_t>(1, directions * panels / tasks);
  const int64_t fitting = kSumsBytes / (left_size * kWidth<T> * int64_t(sizeof(T)));
  return kPack<T> > 1 ? per_task : std::clamp<int64_t>(fitting, 1, per_task);
}

}  // namespace attnlstm
