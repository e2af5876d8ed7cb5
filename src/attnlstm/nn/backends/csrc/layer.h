// One LSTM layer over a batch, forward and backward.
//
// Shape letters as in cell.py: B batch, N real steps of all sequences, F input features, H hidden
// size, P size of h (H without projection), D directions.
//
//     z_t = W_ih x_t + b + W_hh h_{t-1}        i, f, o = sigmoid(z),  g = tanh(z)
//     c_t = f_t * c_{t-1} + i_t * g_t          h_t = o_t * tanh(c_t)  (W_hr times that)

#pragma once

#include <tuple>

#include "batch.h"
#include "memory.h"
#include "products.h"
#include "schedule.h"

namespace attnlstm {

// Hidden sizes are padded with zeros to a multiple of this, for every instruction set alike: the
// tensors that are kept for the backward have then the same shape on every machine.
constexpr int64_t kPadding = 16;

inline int64_t padded(int64_t size) { return (size + kPadding - 1) / kPadding * kPadding; }

// So many bytes of pre-activations at a time: what one product writes is still in the cache when
// the next work on it begins.
constexpr int64_t kChunkBytes = 512 * 1024;

// The steps in a chunk of a slice with this many sequences and steps, each of this many bytes.
inline int64_t steps_of_chunk(int64_t step_bytes, int64_t sequences, int64_t steps) {
  return std::max(sequences, std::min(kChunkBytes / step_bytes, steps / kParts));
}

// The gates of steps, in panels as a product makes them: [vector of hidden units, step, gate, lane].
// The weights' rows [4 * H, ...] are put in the order [vector of hidden units, gate, lane].
template <typename T>
struct GatePanels {
  T* first;
  int64_t steps;

  int64_t panel_size() const { return steps * kWidth<T>; }
  T* at(int64_t panel, int64_t step) const { return first + panel * panel_size() + step * kWidth<T>; }
};

// Where the rows [4 * H, size] of a weight matrix begin, in the order of the padded gates; nullptr
// is padding.
template <typename T>
std::vector<T*> gate_rows(T* weight, int64_t hidden_size, int64_t size) {
  constexpr int64_t lanes = kLanes<std::remove_const_t<T>>;
  std::vector<T*> rows;
  for (int64_t unit = 0; unit < padded(hidden_size); unit += lanes) {
    for (int64_t gate = 0; gate < kGates; ++gate) {
      for (int64_t lane = unit; lane < unit + lanes; ++lane) {
        const bool is_real = lane < hidden_size;
        rows.push_back(is_real ? weight + (gate * hidden_size + lane) * size : nullptr);
      }
    }
  }
  return rows;
}

// The weights of one direction, contiguous: w_ih [4 * H, F], w_hh [4 * H, P], and where there are
// biases b_ih and b_hh [4 * H], and with projection w_hr [P, H].
struct Weights {
  Tensor w_ih, w_hh, b_ih, b_hh, w_hr;

  int64_t hidden_size() const { return w_hh.size(0) / kGates; }
};

// Where h_0 [D, B, P] of each direction's sequences is; one row of zeros where it is undefined.
template <typename T>
struct InitialH {
  std::vector<T> zeros;
  const T* first;
  int64_t distance;  // from one sequence to the next

  InitialH(const Tensor& h_0, int64_t size_h) : zeros(size_h), first(zeros.data()), distance(0) {
    if (h_0.defined()) {
      first = h_0.const_data_ptr<T>();
      distance = size_h;
    }
  }
  InitialH(const InitialH&) = delete;

  const T* of(int64_t sequence) const { return first + sequence * distance; }
};

// Whether there is bfloat16, by the processor's matrix unit: asks the system for its use.
bool multiplies_bfloat16();

// Calls run(T(0)) with the data's T.
template <typename Run>
auto with_dtype(const Tensor& data, Run run) {
#ifdef __AMX_BF16__
  if (data.scalar_type() == at::kBFloat16 && multiplies_bfloat16()) {
    return run(BFloat16(0));
  }
#endif
  TORCH_CHECK(
      data.scalar_type() == at::kFloat || data.scalar_type() == at::kDouble,
      "there is no kernel for ", data.scalar_type(), " here");
  return data.scalar_type() == at::kDouble ? run(double(0)) : run(float(0));
}

// What a slice's ways through the time steps and back have in common, as tasks for advance_all. What a
// task refers to all of them share; what it has itself is its own, and of a member of a team right in the
// member's units only.
struct SliceTask {
  const Batch& batch;
  const Tensor &data, &c_0;
  const std::vector<Weights>& weights;
  Slice slice;
  Team team;

  int64_t d = slice.direction, directions = weights.size(), batch_size = batch.order.size();
  int64_t hidden_size = weights[0].hidden_size(), width = padded(hidden_size);
  int64_t size_h = weights[0].w_hh.size(1);
  int64_t input_size = data.size(-1), count = slice.count();
  int64_t steps_left = slice.steps(batch.lengths);
  bool is_finished = false;

  int64_t remaining() const { return steps_left + !is_finished; }
};

// A slice reads all weights of its direction at every step. Where these are more bytes than this for each
// of its sequences, and for one more, to read them takes longer than to wait for other threads.
constexpr int64_t kSliceWeightBytes = 96 * 1024;

// Runs a layer's time steps by tasks task(slice, team). As a rule a slice of the sequences is a thread's
// own affair; but large weights the threads share, so that each has a part of the units of all sequences,
// and waits for the others at every step.
template <typename T, typename MakeTask>
void run_layer(
    const Batch& batch, int64_t directions, int64_t width, int64_t weight_bytes, bool projects,
    MakeTask task) {
  // Only OpenMP runs all threads of a region at the same time, so that they can wait for each other.
  const int64_t members = AT_PARALLEL_OPENMP ? std::min(count_threads(), count_panels<T>(width)) : 1;
  // Both summed up over the time steps.
  const int64_t read_bytes = batch.time() * weight_bytes * members;
  const int64_t sequences = batch.steps() * directions + batch.time();
  if (members > 1 && !projects && read_bytes > kSliceWeightBytes * sequences) {
    for (int64_t direction = 0; direction < directions; ++direction) {
      const Slice all = deal(direction, batch.lengths, 1)[0];
      advance_together(members, [&](const Team& team) { return task(all, team); });
    }
    return;
  }
  const int64_t gate_bytes = directions * batch.steps() * kGates * width * int64_t(sizeof(T));
  std::vector<decltype(task(Slice(), Team()))> tasks;
  for (const Slice& slice : slices_of(directions, batch.lengths, gate_bytes)) {
    tasks.push_back(task(slice, Team()));
  }
  advance_all(tasks);
}

// Below, h_0 and c_0 may be undefined: zeros, which have no gradients.

using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// output, h_n, c_n and, where `keep`, what the backward needs: the gates [D, N, 4 * padded H] and
// the cell states [D, N, padded H], of bfloat16 data in float.
Result forward(
    const Batch& batch, const Tensor& data, const Tensor& h_0, const Tensor& c_0,
    const std::vector<Weights>& weights, bool keep);

// The gradients of data, h_0, c_0 and the weights.
using Gradients = std::tuple<Tensor, Tensor, Tensor, std::vector<Weights>>;

// Overwrites the gates.
Gradients backward(
    const Batch& batch, const Tensor& d_output, const Tensor& d_h_n, const Tensor& d_c_n,
    const Tensor& data, const Tensor& h_0, const Tensor& c_0, const std::vector<Weights>& weights,
    const Tensor& output, Tensor& gates, const Tensor& cells, bool needs_data);

}  // namespace attnlstm
