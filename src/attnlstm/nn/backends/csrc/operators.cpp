// The operators of torch.ops.attnlstm: shapes are those of layer.h, a batch is that of batch.h. The
// weights of the directions are one after the other, those of each in the order of nn.LSTM.
//
// lstm_layer_backward_ writes over the gates, lstm_layer_backward leaves them as they are; with
// `backward_overwrites` autograd may choose the former. lstm_layer_plain_backward, of native.py, can be
// differentiated again and mapped.

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

// How many tensors the weights of a direction are: 2, 2 more with biases, 1 more with projection.
int64_t per_direction(at::TensorList weights, int64_t directions) {
  TORCH_CHECK(directions == 1 || directions == 2, "there should be 1 or 2 directions");
  const int64_t count = weights.size() / directions;
  TORCH_CHECK(
      count >= 2 && count <= 5 && count * directions == int64_t(weights.size()),
      "there should be 2 to 5 weights for each direction");
  return count;
}

std::vector<Weights> group(at::TensorList flat, int64_t directions) {
  const int64_t count = per_direction(flat, directions);
  std::vector<Weights> weights;
  for (size_t first = 0; first < flat.size(); first += count) {
    const auto at = [&](int64_t number) { return flat[first + number].contiguous(); };
    Weights w{at(0), at(1)};
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

using OptionalTensor = std::optional<Tensor>;

Tensor contiguous(const OptionalTensor& tensor) {
  return tensor ? tensor->contiguous() : Tensor();
}

Result lstm_layer(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0, const OptionalTensor& c_0,
    at::TensorList weights, int64_t directions, bool batch_first, int64_t kept_steps,
    bool /*backward_overwrites*/) {
  const Batch batch(data, lengths, batch_first);
  const auto grouped = group(weights, directions);
  const int64_t batch_size = lengths.numel();
  TORCH_CHECK(
      !h_0 || h_0->sizes() == at::IntArrayRef({directions, batch_size, grouped[0].w_hh.size(1)}),
      "lengths and weights do not fit h_0");
  TORCH_CHECK(
      !c_0 || c_0->sizes() == at::IntArrayRef({directions, batch_size, grouped[0].hidden_size()}),
      "lengths and weights do not fit c_0");
  TORCH_CHECK(
      kept_steps == 0 || kept_steps == batch.steps(), "kept_steps should be 0 or all steps, ",
      batch.steps());
  return forward(
      batch, data.contiguous(), contiguous(h_0), contiguous(c_0), grouped, kept_steps > 0);
}

using FlatGradients = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>;

FlatGradients lstm_layer_backward_(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, const Tensor& output, Tensor gates,
    const Tensor& cells, int64_t directions, bool batch_first, bool needs_data) {
  const Batch batch(data, lengths, batch_first);
  TORCH_CHECK(gates.size(1) == batch.steps(), "the forward kept nothing for a backward");
  auto [d_data, d_h_0, d_c_0, gradients] = backward(
      batch, contiguous(d_output), contiguous(d_h_n), contiguous(d_c_n), data.contiguous(),
      contiguous(h_0), contiguous(c_0), group(weights, directions), output.contiguous(), gates,
      cells, needs_data);
  const auto or_empty = [&](const Tensor& gradient) {
    return gradient.defined() ? gradient : empty({0}, data.options());
  };
  return {or_empty(d_data), or_empty(d_h_0), or_empty(d_c_0), flatten(gradients)};
}

FlatGradients lstm_layer_backward(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, const Tensor& output, const Tensor& gates,
    const Tensor& cells, int64_t directions, bool batch_first, bool needs_data) {
  return lstm_layer_backward_(
      d_output, d_h_n, d_c_n, data, lengths, h_0, c_0, weights, output, gates.clone(), cells,
      directions, batch_first, needs_data);
}

}  // namespace
}  // namespace attnlstm

TORCH_LIBRARY(attnlstm, library) {
  library.def("multiplies_bfloat16() -> bool", attnlstm::multiplies_bfloat16);
  library.def("release_memory() -> ()", []() { attnlstm::KeptMemory::instance().release(); });
  library.def(
      "lstm_layer(Tensor data, Tensor lengths, Tensor? h_0, Tensor? c_0, Tensor[] weights, "
      "int directions, bool batch_first, SymInt kept_steps, bool backward_overwrites) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  for (const auto& [name, gates] : {std::pair("", "Tensor"), {"_", "Tensor(a!)"}}) {
    const std::string schema = c10::str(
        "lstm_layer_backward", name,
        "(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor data, Tensor lengths, "
        "Tensor? h_0, Tensor? c_0, Tensor[] weights, Tensor output, ", gates, " gates, Tensor cells, "
        "int directions, bool batch_first, bool needs_data) -> (Tensor, Tensor, Tensor, Tensor[])");
    library.def(schema.c_str());
  }
  library.def(
      "lstm_layer_plain_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor data, "
      "Tensor lengths, Tensor? h_0, Tensor? c_0, Tensor[] weights, int directions, "
      "bool batch_first) -> Tensor?[]");
}

TORCH_LIBRARY_IMPL(attnlstm, CPU, library) {
  library.impl("lstm_layer", attnlstm::lstm_layer);
  library.impl("lstm_layer_backward", attnlstm::lstm_layer_backward);
  library.impl("lstm_layer_backward_", attnlstm::lstm_layer_backward_);
}
