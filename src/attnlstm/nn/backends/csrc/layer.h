// One LSTM layer over a batch: what goes in, what comes out, and how the work is divided.
//
//     z_t = W_ih x_t + b_ih + b_hh + W_hh h_{t-1}     i, f, o = sigmoid(z),  g = tanh(z)
//     c_t = f_t * c_{t-1} + i_t * g_t                 h_t = o_t * tanh(c_t)
//
// and, with projection, h_t = W_hr (o_t * tanh(c_t)).
//
// The batch is divided into slices, each of which holds some sequences of one direction. A slice visits
// the time steps in order. At each step it multiplies h_{t-1} of all its sequences by W_hh, which was
// packed into panels beforehand. One panel yields the four gates of one vector of hidden units, so that
// the formulas above are applied to sums that are still in registers.
//
// Shape letters are those of cell.py: B batch, T time steps, N real steps of all sequences, F input
// features, H hidden size, P size of h (H without projection), D directions.

#pragma once

#include <tuple>

#include "batch.h"
#include "memory.h"
#include "products.h"
#include "schedule.h"

namespace attnlstm {

// Hidden sizes are padded with zeros to a multiple of this. It is the same for every instruction set, so
// that the tensors kept for the backward have the same shape on every machine.
constexpr int64_t kPadding = 16;

inline int64_t padded(int64_t size) { return (size + kPadding - 1) / kPadding * kPadding; }

// The weights of one direction, contiguous. b_ih and b_hh are undefined without biases, w_hr without
// projection.
struct Weights {
  Tensor w_ih;  // [4 * H, F]
  Tensor w_hh;  // [4 * H, P]
  Tensor b_ih;  // [4 * H]
  Tensor b_hh;  // [4 * H]
  Tensor w_hr;  // [P, H]
};

// What a layer computes from. All tensors are contiguous. An undefined h_0 or c_0 stands for zeros, which
// have no gradient.
struct LayerInputs {
  Tensor data;                   // [T, B, F], [B, T, F] or packed [N, F]
  Tensor h_0;                    // [D, B, P]
  Tensor c_0;                    // [D, B, H]
  std::vector<Weights> weights;  // one for each direction

  int64_t directions() const { return weights.size(); }
  int64_t input_size() const { return data.size(-1); }
  int64_t hidden_size() const { return weights[0].w_hh.size(0) / kGates; }
  int64_t width() const { return padded(hidden_size()); }
  int64_t size_h() const { return weights[0].w_hh.size(1); }
  bool projects() const { return weights[0].w_hr.defined(); }
};

// What the backward reads of the forward. Steps are in packed order.
struct Saved {
  Tensor output;  // laid out as the data, with D * P features
  Tensor gates;   // [D, N, 4 * padded H], as GatePanels
  Tensor cells;   // [D, N, padded H], in float32 for bfloat16 data
};

struct LayerOutputs {
  Saved saved;  // gates and cells have N = 0 unless they are kept for a backward
  Tensor h_n;   // [D, B, P]
  Tensor c_n;   // [D, B, H]
};

// The gradients that come in; undefined ones are zero.
struct OutputGradients {
  Tensor output, h_n, c_n;
};

// The gradients that go out; the ones that nobody needs are undefined.
struct InputGradients {
  Tensor data, h_0, c_0;
  std::vector<Weights> weights;
};

// Runs the layer, and keeps what the backward needs if `keep`.
LayerOutputs forward(const Batch& batch, const LayerInputs& inputs, bool keep);

// Computes the gradients. Overwrites saved.gates.
InputGradients backward(
    const Batch& batch, const LayerInputs& inputs, const Saved& saved,
    const OutputGradients& d_outputs, bool needs_data);

// Whether the processor multiplies bfloat16 by its matrix unit. Asks the system for permission to use it.
bool multiplies_bfloat16();

// Calls run(T(0)), where T is the element type of the data.
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

// ---------------------------------------------------------------------------------------------
// Memory layout
// ---------------------------------------------------------------------------------------------

// The gates of all steps in the order in which products write them:
// [vector of hidden units, step, gate, lane].
template <typename T>
struct GatePanels {
  T* first;
  int64_t steps;

  int64_t panel_size() const { return steps * kWidth<T>; }
  T* at(int64_t panel, int64_t step) const { return first + panel * panel_size() + step * kWidth<T>; }
};

// Returns where each row of a matrix [count, size] begins.
template <typename T>
std::vector<T*> row_pointers(T* first, int64_t count, int64_t size) {
  std::vector<T*> rows(count);
  for (int64_t row = 0; row < count; ++row) {
    rows[row] = first + row * size;
  }
  return rows;
}

// Returns where the rows of a weight matrix [4 * H, size] begin, in the order of the padded gates:
// [vector of hidden units, gate, lane]. A nullptr stands for padding.
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

// The rows of h_0 [D, B, P]. Where h_0 is undefined, every row is the same row of zeros.
template <typename T>
struct InitialH {
  std::vector<T> zeros;
  const T* first;
  int64_t distance;  // from one row to the next

  InitialH(const Tensor& h_0, int64_t size_h) : zeros(size_h), first(zeros.data()), distance(0) {
    if (h_0.defined()) {
      first = h_0.const_data_ptr<T>();
      distance = size_h;
    }
  }
  InitialH(const InitialH&) = delete;

  const T* row(int64_t number) const { return first + number * distance; }
};

// ---------------------------------------------------------------------------------------------
// Division of the work
// ---------------------------------------------------------------------------------------------

// The size of a chunk of pre-activations. What one product writes is still in the cache when the next
// work on it begins.
constexpr int64_t kChunkBytes = 512 * 1024;

// Returns the number of steps in a chunk of a slice with this many sequences and steps, where each step
// takes this many bytes.
inline int64_t steps_of_chunk(int64_t step_bytes, int64_t sequences, int64_t steps) {
  return std::max(sequences, std::min(kChunkBytes / step_bytes, steps / kParts));
}

// A slice on its way through the time steps, forward or backward: a task for advance_all, or for
// advance_together, where each member of the team computes its share of the hidden units and has a task
// object of its own. Members that are references are shared by all tasks.
struct SliceTask {
  const Batch& batch;
  const LayerInputs& inputs;
  Slice slice;
  Team team;

  int64_t d = slice.direction, directions = inputs.directions(), batch_size = batch.order.size();
  int64_t hidden_size = inputs.hidden_size(), width = inputs.width(), size_h = inputs.size_h();
  int64_t input_size = inputs.input_size(), count = slice.count();
  int64_t steps_left = slice.steps(batch.lengths);
  bool is_finished = false;

  int64_t remaining() const { return steps_left + !is_finished; }

  // The row of the slice's n-th sequence in tensors [D, B, ...].
  int64_t state_row(int64_t number) const {
    return d * batch_size + batch.order[slice.ranks[number]];
  }
  // Where this direction's features of a row begin in tensors [row, D * P].
  int64_t output_offset(int64_t row) const { return (row * directions + d) * size_h; }
};

// A slice reads all weights of its direction at every step. If these exceed this many bytes for each of
// its sequences, counted with one extra, reading them takes longer than waiting for other threads.
constexpr int64_t kSliceWeightBytes = 96 * 1024;

// Runs the tasks task(slice, team) of a layer to their end. Normally each slice is advanced by one thread
// at a time and never waits. If the weights are large, the threads form a team instead: each computes its
// share of the hidden units for all sequences, and waits for the others at every step.
template <typename T, typename MakeTask>
void run_layer(
    const Batch& batch, const LayerInputs& inputs, int64_t weight_bytes, MakeTask task) {
  const int64_t directions = inputs.directions(), width = inputs.width();
  // A team needs all its threads to run at the same time, which only OpenMP guarantees.
  const int64_t members = AT_PARALLEL_OPENMP ? std::min(count_threads(), count_panels<T>(width)) : 1;
  // Both are summed over the time steps.
  const int64_t read_bytes = batch.time() * weight_bytes * members;
  const int64_t sequences = batch.steps() * directions + batch.time();
  if (members > 1 && !inputs.projects() && read_bytes > kSliceWeightBytes * sequences) {
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

}  // namespace attnlstm
