// The operators of torch.ops.attnlstm: shapes are those of layer.h, a batch is that of batch.h.
// lstm_layer_backward_ writes over the gates, lstm_layer_backward leaves them as they are; with
// `backward_overwrites` autograd may choose the former.

#include <torch/library.h>

#include "layer.h"

namespace attnlstm {
namespace {

std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(tensor->contiguous()) : std::nullopt;
}

Tensor defined_or_empty(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->contiguous() : Tensor();
}

Result lstm_layer(
    const Tensor& data, const Tensor& lengths, const Tensor& h_0, const Tensor& c_0,
    const Tensor& weight_ih, const Tensor& weight_hh, const std::optional<Tensor>& bias,
    const std::optional<Tensor>& weight_hr, bool batch_first, int64_t kept_steps,
    bool /*backward_overwrites*/) {
  const Batch batch(data, lengths, batch_first);
  TORCH_CHECK(h_0.size(1) == lengths.numel(), "lengths do not fit the state");
  TORCH_CHECK(
      kept_steps == 0 || kept_steps == batch.steps(), "kept_steps should be 0 or all steps, ",
      batch.steps());
  return forward(
      batch, data.contiguous(), h_0.contiguous(), c_0.contiguous(), weight_ih.contiguous(),
      weight_hh.contiguous(), contiguous(bias), contiguous(weight_hr), kept_steps > 0);
}

Gradients lstm_layer_backward_(
    const std::optional<Tensor>& d_output, const std::optional<Tensor>& d_h_n,
    const std::optional<Tensor>& d_c_n, const Tensor& data, const Tensor& lengths,
    const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih, const Tensor& weight_hh,
    const std::optional<Tensor>& weight_hr, const Tensor& output, Tensor gates,
    const Tensor& cells, bool batch_first, bool needs_data) {
  const Batch batch(data, lengths, batch_first);
  TORCH_CHECK(gates.size(1) == batch.steps(), "the forward kept nothing for a backward");
  return backward(
      batch, defined_or_empty(d_output), defined_or_empty(d_h_n), defined_or_empty(d_c_n),
      data.contiguous(), h_0.contiguous(), c_0.contiguous(), weight_ih.contiguous(),
      weight_hh.contiguous(), contiguous(weight_hr), output.contiguous(), gates, cells,
      needs_data);
}

Gradients lstm_layer_backward(
    const std::optional<Tensor>& d_output, const std::optional<Tensor>& d_h_n,
    const std::optional<Tensor>& d_c_n, const Tensor& data, const Tensor& lengths,
    const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih, const Tensor& weight_hh,
    const std::optional<Tensor>& weight_hr, const Tensor& output, const Tensor& gates,
    const Tensor& cells, bool batch_first, bool needs_data) {
  return lstm_layer_backward_(
      d_output, d_h_n, d_c_n, data, lengths, h_0, c_0, weight_ih, weight_hh, weight_hr, output,
      gates.clone(), cells, batch_first, needs_data);
}

}  // namespace
}  // namespace attnlstm

TORCH_LIBRARY(attnlstm, library) {
  library.def(
      "lstm_layer(Tensor data, Tensor lengths, Tensor h_0, Tensor c_0, Tensor weight_ih, "
      "Tensor weight_hh, Tensor? bias, Tensor? weight_hr, bool batch_first, SymInt kept_steps, "
      "bool backward_overwrites=False) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  for (const auto& [name, gates] : {std::pair("", "Tensor"), {"_", "Tensor(a!)"}}) {
    const std::string schema = c10::str(
        "lstm_layer_backward", name,
        "(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor data, Tensor lengths, Tensor h_0, "
        "Tensor c_0, Tensor weight_ih, Tensor weight_hh, Tensor? weight_hr, Tensor output, ", gates,
        " gates, Tensor cells, bool batch_first, bool needs_data) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
    library.def(schema.c_str());
  }
}

TORCH_LIBRARY_IMPL(attnlstm, CPU, library) {
  library.impl("lstm_layer", attnlstm::lstm_layer);
  library.impl("lstm_layer_backward", attnlstm::lstm_layer_backward);
  library.impl("lstm_layer_backward_", attnlstm::lstm_layer_backward_);
}
