// Which sequences run at which time step, where their steps lie, and which thread takes which.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace attnlstm {

using at::Tensor;

// A batch of sequences, ranked by falling length: those that run at time step t are then the first
// `sizes[t]`. Steps lie in two orders: in the rows of the input and the output, which may be padded,
// and packed as in PackedSequence, without the padding, in what is kept for the backward.
struct Batch {
  std::vector<int64_t> order;    // the sequence of each rank
  std::vector<int64_t> lengths;  // of each rank
  std::vector<int64_t> sizes;    // of each time step
  int64_t rows;                  // of the input, padding included

  // data [time, batch, feature], [batch, time, feature] or packed [step, feature]
  Batch(const Tensor& data, const Tensor& batch_lengths, bool batch_first) {
    const Tensor contiguous = batch_lengths.contiguous();
    const int64_t* length = contiguous.const_data_ptr<int64_t>();
    const int64_t batch = contiguous.numel();
    order.resize(batch);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(
        order.begin(), order.end(), [&](auto a, auto b) { return length[a] > length[b]; });
    for (const int64_t sequence : order) {
      lengths.push_back(length[sequence]);
    }
    const int64_t longest = batch > 0 ? lengths[0] : 0;
    const bool is_packed = data.dim() == 2;
    const int64_t time = is_packed ? longest : data.size(batch_first ? 1 : 0);
    rows = is_packed ? data.size(0) : time * batch;
    TORCH_CHECK(
        (batch == 0 || lengths.back() >= 0) && longest <= time &&
            (is_packed ? std::is_sorted(order.begin(), order.end())
                       : data.size(batch_first ? 0 : 1) == batch),
        "lengths do not fit the data");
    for (int64_t t = 0, running = batch; t < longest; ++t) {
      while (lengths[running - 1] <= t) {
        --running;
      }
      sizes.push_back(running);
      first_places.push_back(steps_);
      first_rows.push_back(is_packed ? steps_ : batch_first ? t : t * batch);
      steps_ += running;
    }
    TORCH_CHECK(!is_packed || steps_ == rows, "lengths do not add up to the packed data");
    row_distance = is_packed || !batch_first ? 1 : time;
    padding_distance = batch_first ? 1 : batch;
    padded_time = is_packed ? 0 : time;
  }

  int64_t time() const { return static_cast<int64_t>(sizes.size()); }
  int64_t steps() const { return steps_; }
  // The time step that a direction reads as its number `k`.
  int64_t at(int64_t k, int64_t direction) const { return direction == 1 ? time() - 1 - k : k; }
  // Where a step is in packed order.
  int64_t place(int64_t t, int64_t rank) const { return first_places[t] + rank; }
  // Where a step is in the input and the output.
  int64_t row(int64_t t, int64_t rank) const { return first_rows[t] + order[rank] * row_distance; }

  // Calls work(row) for the rows of padding after a sequence.
  template <typename Work>
  void for_each_padding(int64_t rank, Work work) const {
    for (int64_t t = lengths[rank]; t < padded_time; ++t) {
      work(t * padding_distance + order[rank] * row_distance);
    }
  }

 private:
  std::vector<int64_t> first_places, first_rows;  // of each time step
  int64_t steps_ = 0, row_distance, padding_distance, padded_time;
};

// A thread's share: of one direction the rank `first` and every `stride`-th after it. Sequences do
// not see each other, so that the threads never wait for one another; dealt out by rank, every
// slice gets as many long ones.
struct Slice {
  int64_t direction, first, stride;

  int64_t count(int64_t batch_size) const {
    return batch_size > first ? (batch_size - first + stride - 1) / stride : 0;
  }
  int64_t rank(int64_t number) const { return first + number * stride; }
};

// Calls work(slice) for every direction and slice. What is computed of a sequence does not depend on
// the slice that it is in, so that any number of threads gives the same results.
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

// A tensor that is about to be written. The system hands out memory in pages of 4 KiB, which for
// large tensors costs a tenth of a training step; asked for it, it does so in pages of 2 MiB.
inline Tensor empty_in_huge_pages(at::IntArrayRef sizes, const at::TensorOptions& options) {
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

}  // namespace attnlstm
