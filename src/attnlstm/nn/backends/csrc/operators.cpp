// The operators of torch.ops.attnlstm as the dispatcher sees them: plain lists of tensors, which are
// checked here and turned into the structs of layer.h. `lengths` and the layout of `data` are described
// in batch.h. `weights` holds the weights of one direction after the other, each in the order of nn.LSTM.
//
//     lstm_layer                   runs a layer; `backward_overwrites` permits the backward that
//                                  overwrites the gates, which autograd.cpp chooses
//     lstm_layer_backward          computes its gradients
//     lstm_layer_backward_         the same, but overwrites the gates, which saves a copy
//     lstm_layer_plain_backward    the same in operations that can be differentiated again (native.py)

#include <ATen/cpu/Utils.h>
#include <torch/library.h>

#include "layer.h"

namespace attnlstm {

bool multiplies_bfloat16() {
#ifdef __AMX_BF16__
  static const bool is_allowed = at::cpu::init_amx();
  return is_allowed;
#else
  return false;
#endif
}

namespace {

using OptionalTensor = std::optional<Tensor>;

Tensor contiguous(const OptionalTensor& tensor) {
  return tensor ? tensor->contiguous() : Tensor();
}

// A direction has 2 weights, 2 more with biases, and 1 more with projection.
std::vector<Weights> group_by_direction(at::TensorList flat, int64_t directions) {
  TORCH_CHECK(directions == 1 || directions == 2, "there should be 1 or 2 directions");
  const int64_t count = flat.size() / directions;
  TORCH_CHECK(
      count >= 2 && count <= 5 && count * directions == int64_t(flat.size()),
      "there should be 2 to 5 weights for each direction");
  std::vector<Weights> weights;
  for (size_t first = 0; first < flat.size(); first += count) {
    const auto at = [&](int64_t number) { return flat[first + number].contiguous(); };
    Weights w{.w_ih = at(0), .w_hh = at(1)};
    if (count >= 4) {
      w.b_ih = at(2);
      w.b_hh = at(3);
    }
    if (count % 2 == 1) {
      w.w_hr = at(count - 1);
    }
    weights.push_back(w);
  }
  return weights;
}

std::vector<Tensor> flatten(const std::vector<Weights>& weights) {
  std::vector<Tensor> flat;
  for (const auto& [w_ih, w_hh, b_ih, b_hh, w_hr] : weights) {
    for (const Tensor& weight : {w_ih, w_hh, b_ih, b_hh, w_hr}) {
      if (weight.defined()) {
        flat.push_back(weight);
      }
    }
  }
  return flat;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> lstm_layer(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0, const OptionalTensor& c_0,
    at::TensorList weights, int64_t directions, bool batch_first, int64_t kept_steps,
    bool /*backward_overwrites*/) {
  const Batch batch(data, lengths, batch_first);
  const LayerInputs inputs{
      .data = data.contiguous(),
      .h_0 = contiguous(h_0),
      .c_0 = contiguous(c_0),
      .weights = group_by_direction(weights, directions)};
  const int64_t batch_size = lengths.numel();
  TORCH_CHECK(
      !h_0 || h_0->sizes() == at::IntArrayRef({directions, batch_size, inputs.size_h()}),
      "lengths and weights do not fit h_0");
  TORCH_CHECK(
      !c_0 || c_0->sizes() == at::IntArrayRef({directions, batch_size, inputs.hidden_size()}),
      "lengths and weights do not fit c_0");
  TORCH_CHECK(
      kept_steps == 0 || kept_steps == batch.steps(), "kept_steps should be 0 or all steps, ",
      batch.steps());
  const LayerOutputs outputs = forward(batch, inputs, kept_steps > 0);
  const auto& [output, gates, cells] = outputs.saved;
  return {output, outputs.h_n, outputs.c_n, gates, cells};
}

template <bool kOverwrites>
std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> lstm_layer_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first,
    const Tensor& output, const Tensor& gates, const Tensor& cells, bool needs_data) {
  const Batch batch(data, lengths, batch_first);
  TORCH_CHECK(gates.size(1) == batch.steps(), "the forward kept nothing for a backward");
  const InputGradients gradients = backward(
      batch,
      LayerInputs{
          .data = data.contiguous(),
          .h_0 = contiguous(h_0),
          .c_0 = contiguous(c_0),
          .weights = group_by_direction(weights, directions)},
      Saved{
          .output = output.contiguous(),
          .gates = kOverwrites ? gates : gates.clone(),
          .cells = cells},
      OutputGradients{
          .output = contiguous(d_output), .h_n = contiguous(d_h_n), .c_n = contiguous(d_c_n)},
      needs_data);
  const auto or_empty = [&](const Tensor& gradient) {
    return gradient.defined() ? gradient : empty({0}, data.options());
  };
  return {
      or_empty(gradients.data), or_empty(gradients.h_0), or_empty(gradients.c_0),
      flatten(gradients.weights)};
}

}  // namespace
}  // namespace attnlstm

TORCH_LIBRARY(attnlstm, library) {
  const std::string gradients = "Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n";
  const std::string inputs =
      "Tensor data, Tensor lengths, Tensor? h_0, Tensor? c_0, Tensor[] weights, int directions, "
      "bool batch_first";
  const auto define = [&](const std::string& schema) { library.def(schema.c_str()); };

  library.def("multiplies_bfloat16() -> bool", attnlstm::multiplies_bfloat16);
  library.def("release_memory() -> ()", []() { attnlstm::KeptMemory::instance().release(); });
  define(
      "lstm_layer(" + inputs + ", SymInt kept_steps, bool backward_overwrites) "
      "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor gates, Tensor cells)");
  define(
      "lstm_layer_backward(" + gradients + ", " + inputs + ", Tensor output, Tensor gates, "
      "Tensor cells, bool needs_data) -> (Tensor, Tensor, Tensor, Tensor[])");
  define(
      "lstm_layer_backward_(" + gradients + ", " + inputs + ", Tensor output, Tensor(a!) gates, "
      "Tensor cells, bool needs_data) -> (Tensor, Tensor, Tensor, Tensor[])");
  define("lstm_layer_plain_backward(" + gradients + ", " + inputs + ") -> Tensor?[]");
}

TORCH_LIBRARY_IMPL(attnlstm, CPU, library) {
  library.impl("lstm_layer", attnlstm::lstm_layer);
  library.impl("lstm_layer_backward", attnlstm::lstm_layer_backward<false>);
  library.impl("lstm_layer_backward_", attnlstm::lstm_layer_backward<true>);
}
