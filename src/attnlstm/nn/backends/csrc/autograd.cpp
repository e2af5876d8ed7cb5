// lstm_layer as autograd sees it. In C++, because an autograd.Function in Python takes as long as the
// arithmetic of a small batch.

#include <ATen/TensorSubclassLikeUtils.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/library.h>

#include "layer.h"

namespace attnlstm {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;

// The signatures of the operators in operators.cpp.
using Layer = Result(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first,
    c10::SymInt kept_steps, bool backward_overwrites);
template <typename Kept>
using LayerBackward = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, const Tensor& output, Kept gates,
    const Tensor& cells, int64_t directions, bool batch_first, bool needs_data);
using LayerPlainBackward = c10::List<OptionalTensor>(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first);

template <typename Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// Whether the gradients are to be differentiated again (create_graph), or vmap stands behind them, as in
// a vectorized Jacobian.
bool needs_plain_gradients(const variable_list& grads) {
  constexpr c10::DispatchKeySet batched(
      {c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::Batched});
  return at::GradMode::is_enabled() ||
         std::any_of(grads.begin(), grads.end(), [&](const Tensor& grad) {
           return grad.defined() && grad.key_set().has_any(batched);
         });
}

// Whether what the forward kept may be read after this backward: with retain_graph, and when a compiler
// or tracer of any kind looks on.
bool is_needed_again(const Tensor& kept) {
  return at::isTensorSubclassLike(kept) || torch::autograd::get_current_graph_task_keep_graph();
}

Result run_layer(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first,
    const c10::SymInt& kept_steps, bool backward_overwrites) {
  static const auto layer = find_operator<Layer>("attnlstm::lstm_layer");
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return layer.call(
      data, lengths, h_0, c_0, weights, directions, batch_first, kept_steps, backward_overwrites);
}

struct LayerFunction : torch::autograd::Function<LayerFunction> {
  static constexpr bool is_traceable = true;

  // `kept` takes the gates and the cells, which have no gradient.
  static variable_list forward(
      AutogradContext* context, const Tensor& data, const Tensor& lengths,
      const OptionalTensor& h_0, const OptionalTensor& c_0, at::TensorList weights,
      int64_t directions, bool batch_first, const c10::SymInt& kept_steps,
      bool backward_overwrites, std::pair<Tensor, Tensor>* kept) {
    const auto [output, h_n, c_n, gates, cells] = run_layer(
        data, lengths, h_0, c_0, weights, directions, batch_first, kept_steps, backward_overwrites);
    *kept = {gates, cells};
    variable_list saved = {output, gates, cells, data, lengths, h_0.value_or(Tensor()),
                           c_0.value_or(Tensor())};
    saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["directions"] = directions;
    context->saved_data["batch_first"] = batch_first;
    context->saved_data["backward_overwrites"] = backward_overwrites;
    context->set_materialize_grads(false);
    return {output, h_n, c_n};
  }

  // The gradients of what forward is called with, undefined where there is none.
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &output = saved[0], &gates = saved[1], &cells = saved[2];
    const Tensor &data = saved[3], &lengths = saved[4];
    const auto optional = [](const Tensor& tensor) {
      return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
    };
    const OptionalTensor h_0 = optional(saved[5]), c_0 = optional(saved[6]);
    const OptionalTensor d_output = optional(grads[0]), d_h_n = optional(grads[1]);
    const OptionalTensor d_c_n = optional(grads[2]);
    const at::TensorList weights = at::TensorList(saved).slice(7);
    const int64_t directions = context->saved_data["directions"].toInt();
    const bool batch_first = context->saved_data["batch_first"].toBool();

    variable_list gradients;  // of data, lengths, h_0, c_0 and the weights
    if (needs_plain_gradients(grads)) {
      static const auto plain_backward =
          find_operator<LayerPlainBackward>("attnlstm::lstm_layer_plain_backward");
      for (const OptionalTensor& gradient : plain_backward.call(
               d_output, d_h_n, d_c_n, data, lengths, h_0, c_0, weights, directions, batch_first)) {
        gradients.push_back(gradient.value_or(Tensor()));
      }
    } else {
      const auto run = [&](const auto& operation) {
        const auto [d_data, d_h_0, d_c_0, d_weights] = operation.call(
            d_output, d_h_n, d_c_n, data, lengths, h_0, c_0, weights, output, gates, cells,
            directions, batch_first, context->needs_input_grad(0));
        gradients = {d_data, Tensor(), d_h_0, d_c_0};
        gradients.insert(gradients.end(), d_weights.begin(), d_weights.end());
      };
      if (context->saved_data["backward_overwrites"].toBool() && !is_needed_again(gates)) {
        static const auto overwrite =
            find_operator<LayerBackward<Tensor>>("attnlstm::lstm_layer_backward_");
        run(overwrite);
      } else {
        static const auto backward =
            find_operator<LayerBackward<const Tensor&>>("attnlstm::lstm_layer_backward");
        run(backward);
      }
    }
    size_t edge = 0;  // of those inputs that are tensors
    for (size_t input = 0; input < gradients.size(); ++input) {
      const bool is_tensor = (input != 2 || h_0) && (input != 3 || c_0);
      if (!is_tensor || !context->needs_input_grad(edge++)) {
        gradients[input] = Tensor();
      }
    }
    constexpr size_t options = 5;  // after the weights
    gradients.resize(gradients.size() + options);
    return gradients;
  }
};

Result lstm_layer(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first,
    c10::SymInt kept_steps, bool backward_overwrites) {
  if (!at::GradMode::is_enabled()) {
    return run_layer(
        data, lengths, h_0, c_0, weights, directions, batch_first, kept_steps, backward_overwrites);
  }
  std::pair<Tensor, Tensor> kept;
  const variable_list results = LayerFunction::apply(
      data, lengths, h_0, c_0, weights, directions, batch_first, kept_steps, backward_overwrites,
      &kept);
  return {results[0], results[1], results[2], kept.first, kept.second};
}

}  // namespace
}  // namespace attnlstm

TORCH_LIBRARY_IMPL(attnlstm, Autograd, library) {
  library.impl("lstm_layer", attnlstm::lstm_layer);
}
