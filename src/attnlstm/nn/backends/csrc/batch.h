// Which sequences run at which time step, and where their steps are in memory.
//
// Sequences are ranked by descending length, so that the ones that run at time step t are the first
// `sizes[t]` ranks. Every step has two addresses:
//
//     row      in the input and the output, which are padded ([time, batch] or [batch, time]) or packed
//     place    in packed order, without padding, as in PackedSequence; used for what the backward needs

#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace attnlstm {

using at::Tensor;

struct Batch {
  std::vector<int64_t> order;    // the sequence of each rank
  std::vector<int64_t> lengths;  // the length of each rank
  std::vector<int64_t> sizes;    // the number of sequences that run at each time step
  int64_t rows;                  // the number of rows of the input, padding included

  // data is [time, batch, feature], [batch, time, feature] or packed [step, feature]. The lengths [batch]
  // are int64, from 0 to time, and do not increase if the data is packed.
  Batch(const Tensor& data, const Tensor& batch_lengths, bool batch_first) {
    TORCH_CHECK(
        data.dim() == 2 || data.dim() == 3, "Expected data with 2 or 3 dimensions, got ", data.sizes());
    TORCH_CHECK(
        batch_lengths.dim() == 1 && batch_lengths.scalar_type() == at::kLong &&
            batch_lengths.device().is_cpu(),
        "Expected lengths of size [batch] in int64 on the CPU, got ", batch_lengths.sizes(), " in ",
        batch_lengths.dtype());
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
    // Of packed data only a bound is known before the lengths are checked.
    const int64_t time = data.size(batch_first && !is_packed ? 1 : 0);
    rows = is_packed ? time : time * batch;
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
  // The k-th time step that a direction reads.
  int64_t at(int64_t k, int64_t direction) const { return direction == 1 ? time() - 1 - k : k; }
  int64_t place(int64_t t, int64_t rank) const { return first_places[t] + rank; }
  int64_t row(int64_t t, int64_t rank) const { return first_rows[t] + order[rank] * row_distance; }

  // Calls work(row) for each row of padding after a sequence.
  template <typename Work>
  void for_each_padding(int64_t rank, Work work) const {
    for (int64_t t = lengths[rank]; t < padded_time; ++t) {
      work(t * padding_distance + order[rank] * row_distance);
    }
  }

 private:
  std::vector<int64_t> first_places, first_rows;  // at each time step
  int64_t steps_ = 0, row_distance, padding_distance, padded_time;
};

}  // namespace attnlstm
