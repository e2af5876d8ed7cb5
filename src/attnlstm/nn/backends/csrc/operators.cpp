// The operators of torch.ops.attnlstm: shapes are those of layer.h, a batch is that of batch.h. The
// weights of the directions are one after the other, those of each in the order of nn.LSTM.
//
// lstm_layer_backward_ writes over the gates, lstm_layer_backward leaves them as they are; with
// `backward_overwrites` autograd may choose the former. lstm_layer_plain_backward, of native.py, can be
// differentiated again and mapped.

#include <torch/library.h>

#include "layer.h"

namespace attnlstm {
namespace {

// How many tensors the weights of a direction are: 2, 2 more with biases, 1 more with projection.
int64_t per_direction(at::TensorList weights, const Tensor& h_0) {
  const int64_t directions = h_0.size(0), count = weights.size() / directions;
  TORCH_CHECK(
      count >= 2 && count <= 5 && count * directions == int64_t(weights.size()),
      "there should be 2 to 5 weights for each direction");
  return count;
}

std::vector<Weights> group(at::TensorList flat, const Tensor& h_0) {
  const int64_t count = per_direction(flat, h_0);
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

Tensor contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->contiguous() : Tensor();
}

Result lstm_layer(
    const Tensor& data, const Tensor& lengths, const Tensor& h_0, const Tensor& c_0,
    at::TensorList weights, bool batch_first, int64_t kept_steps, bool /*backward_overwrites*/) {
  const Batch batch(data, lengths, batch_first);
  TORCH_CHECK(h_0.size(1) == lengths.numel(), "lengths do not fit the state");
  TORCH_CHECK(
      kept_steps == 0 || kept_steps == batch.steps(), "kept_steps should be 0 or all steps, ",
      batch.steps());
  return forward(
      batch, data.contiguous(), h_0.contiguous(), c_0.contiguous(), group(weights, h_0),
      kept_steps > 0);
}

using FlatGradients = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>;

FlatGradients lstm_layer_backward_(
    const std::optional<Tensor>& d_output, const std::optional<Tensor>& d_h_n,
    const std::optional<Tensor>& d_c_n, const Tensor& data, const Tensor& lengths,
    const Tensor& h_0, const Tensor& c_0, at::TensorList weights, const Tensor& output,
    Tensor gates, const Tensor& cells, bool batch_first, bool needs_data) {
  const Batch batch(data, lengths, batch_first);
  TORCH_CHECK(gates.size(1) == batch.steps(), "the forward kept nothing for a backward");
  auto [d_data, d_h, d_c, gradients] = backward(
      batch, contiguous(d_output), contiguous(d_h_n), contiguous(d_c_n), data.contiguous(),
      h_0.contiguous(), c_0.contiguous(), group(weights, h_0), output.contiguous(), gates, cells,
      needs_data);
  return {d_data, d_h, d_c, flatten(gradients)};
}

FlatGradients lstm_layer_backward(
    const std::optional<Tensor>& d_output, const std::optional<Tensor>& d_h_n,
    const std::optional<Tensor>& d_c_n, const Tensor& data, const Tensor& lengths,
    const Tensor& h_0, const Tensor& c_0, at::TensorList weights, const Tensor& output,
    const Tensor& gates, const Tensor& cells, bool batch_first, bool needs_data) {
  return lstm_layer_backward_(
      d_output, d_h_n, d_c_n, data, lengths, h_0, c_0, weights, output, gates.clone(), cells,
      batch_first, needs_data);
}

}  // namespace
}  // namespace attnlstm

TORCH_LIBRARY(attnlstm, library) {
  library.def("multiplies_bfloat16() -> bool", attnlstm::multiplies_bfloat16);
  library.def("release_memory() -> ()", []() { attnlstm::KeptMemory::instance().release(); });
  library.def(
      "lstm_layer(Tensor data, Tensor lengths, Tensor h_0, Tensor c_0, Tensor[] weights, "
      "bool batch_first, SymInt kept_steps, bool backward_overwrites) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  for (const auto& [name, gates] : {std::pair("", "Tensor"), {"_", "Tensor(a!)"}}) {
    const std::string schema = c10::str(
        "lstm_layer_backward", name,
        "(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor data, Tensor lengths, Tensor h_0, "
        "Tensor c_0, Tensor[] weights, Tensor output, ", gates, " gates, Tensor cells, "
        "bool batch_first, bool needs_data) -> (Tensor, Tensor, Tensor, Tensor[])");
    library.def(schema.c_str());
  }
  library.def(
      "lstm_layer_plain_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor data, "
      "Tensor lengths, Tensor h_0, Tensor c_0, Tensor[] weights, bool batch_first) -> Tensor?[]");
}

TORCH_LIBRARY_IMPL(attnlstm, CPU, library) {
  library.impl("lstm_layer", attnlstm::lstm_layer);
  library.impl("lstm_layer_backward", attnlstm::lstm_layer_backward);
  library.impl("lstm_layer_backward_", attnlstm::lstm_layer_backward_);
}
