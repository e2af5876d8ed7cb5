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

#include <string>

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

// Returns a contiguous tensor, after checking its size, dtype and device: the kernels trust them.
Tensor checked(
    const Tensor& tensor, const std::string& name, at::IntArrayRef size,
    const at::TensorOptions& options) {
  TORCH_CHECK(tensor.sizes() == size, "Expected ", name, " size ", size, ", got ", tensor.sizes());
  TORCH_CHECK(
      tensor.dtype() == options.dtype(), "Expected ", name, " dtype ", options.dtype(), ", got ",
      tensor.dtype());
  TORCH_CHECK(
      tensor.device() == options.device(), "Expected ", name, " on ", options.device(), ", got ",
      tensor.device());
  return tensor.contiguous();
}

Tensor checked(
    const OptionalTensor& tensor, const std::string& name, at::IntArrayRef size,
    const at::TensorOptions& options) {
  return tensor ? checked(*tensor, name, size, options) : Tensor();
}

// The number of rows of a weight matrix, from which the other sizes follow.
int64_t count_rows(const Tensor& matrix, const char* name) {
  TORCH_CHECK(
      matrix.dim() == 2 && matrix.size(0) > 0, "Expected ", name, " to be a matrix with rows, got ",
      matrix.sizes());
  return matrix.size(0);
}

// A direction has 2 weights, 2 more with biases, and 1 more with projection.
std::vector<Weights> group_by_direction(
    at::TensorList flat, int64_t directions, int64_t input_size, const at::TensorOptions& options) {
  TORCH_CHECK(directions == 1 || directions == 2, "there should be 1 or 2 directions");
  const int64_t count = flat.size() / directions;
  TORCH_CHECK(
      count >= 2 && count <= 5 && count * directions == int64_t(flat.size()),
      "there should be 2 to 5 weights for each direction");
  const bool has_bias = count >= 4, projects = count % 2 == 1;
  const int64_t hidden_size = std::max<int64_t>(count_rows(flat[1], "weight_hh") / kGates, 1);
  const int64_t size_h = projects ? count_rows(flat[count - 1], "weight_hr") : hidden_size;
  const int64_t gates = kGates * hidden_size;
  std::vector<Weights> weights;
  for (int64_t d = 0; d < directions; ++d) {
    const auto at = [&](int64_t number, const std::string& name, at::IntArrayRef size) {
      return checked(flat[d * count + number], name + (d == 1 ? "_reverse" : ""), size, options);
    };
    Weights w{
        .w_ih = at(0, "weight_ih", {gates, input_size}), .w_hh = at(1, "weight_hh", {gates, size_h})};
    if (has_bias) {
      w.b_ih = at(2, "bias_ih", {gates});
      w.b_hh = at(3, "bias_hh", {gates});
    }
    if (projects) {
      w.w_hr = at(count - 1, "weight_hr", {size_h, hidden_size});
    }
    weights.push_back(w);
  }
  return weights;
}

// An undefined h_0 or c_0 stays undefined.
LayerInputs checked_inputs(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0, const OptionalTensor& c_0,
    at::TensorList weights, int64_t directions) {
  const at::TensorOptions options = data.options();
  LayerInputs inputs{
      .data = data.contiguous(),
      .weights = group_by_direction(weights, directions, data.size(-1), options)};
  const int64_t batch_size = lengths.numel();
  inputs.h_0 = checked(h_0, "h_0", {directions, batch_size, inputs.size_h()}, options);
  inputs.c_0 = checked(c_0, "c_0", {directions, batch_size, inputs.hidden_size()}, options);
  return inputs;
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
  const LayerInputs inputs = checked_inputs(data, lengths, h_0, c_0, weights, directions);
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
  const LayerInputs inputs = checked_inputs(data, lengths, h_0, c_0, weights, directions);
  const at::TensorOptions options = data.options();
  const at::TensorOptions cell_options = options.dtype(at::toOpMathType(data.scalar_type()));
  const int64_t batch_size = lengths.numel(), steps = batch.steps(), width = inputs.width();
  std::vector<int64_t> output_size = data.sizes().vec();
  output_size.back() = directions * inputs.size_h();
  const Tensor kept = checked(gates, "gates", {directions, steps, kGates * width}, options);
  const InputGradients gradients = backward(
      batch, inputs,
      Saved{
          .output = checked(output, "output", output_size, options),
          .gates = kOverwrites ? kept : kept.clone(),
          .cells = checked(cells, "cells", {directions, steps, width}, cell_options)},
      OutputGradients{
          .output = checked(d_output, "d_output", output_size, options),
          .h_n = checked(d_h_n, "d_h_n", {directions, batch_size, inputs.size_h()}, options),
          .c_n = checked(d_c_n, "d_c_n", {directions, batch_size, inputs.hidden_size()}, options)},
      needs_data);
  const auto or_empty = [&](const Tensor& gradient) {
    return gradient.defined() ? gradient : empty({0}, options);
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
