// lstm_layer as autograd sees it. This is C++ because an autograd.Function in Python takes as long as the
// arithmetic of a small batch.
//
// A backward takes one of three ways: over the memory that the forward kept; if that is needed again, over
// a copy; and if the gradients are themselves differentiated or mapped by vmap, through plain operations.

#include <ATen/TensorSubclassLikeUtils.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/library.h>

namespace attnlstm {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;

// The signatures of the operators that operators.cpp defines.
using Result = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Layer = Result(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first,
    c10::SymInt kept_steps, bool backward_overwrites);
using LayerBackward = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first,
    const Tensor& output, const Tensor& gates, const Tensor& cells, bool needs_data);
using LayerPlainBackward = c10::List<OptionalTensor>(
    const OptionalTensor& d_output, const OptionalTensor& d_h_n, const OptionalTensor& d_c_n,
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first);

template <typename Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// Whether the gradients will be differentiated again (create_graph) or are mapped by vmap, as in a
// vectorized Jacobian.
bool needs_plain_gradients(const variable_list& grads) {
  constexpr c10::DispatchKeySet batched(
      {c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::Batched});
  return at::GradMode::is_enabled() ||
         std::any_of(grads.begin(), grads.end(), [&](const Tensor& grad) {
           return grad.defined() && grad.key_set().has_any(batched);
         });
}

// Whether what the forward kept may be read after this backward: with retain_graph, and when a compiler
// or tracer records the operators.
bool is_needed_again(const Tensor& kept) {
  return at::isTensorSubclassLike(kept) || torch::autograd::get_current_graph_task_keep_graph();
}

// The arguments of lstm_layer that are not tensors.
struct Options {
  int64_t directions;
  bool batch_first;
  c10::SymInt kept_steps;
  bool backward_overwrites;
};

Result run_layer(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, const Options& options) {
  static const auto layer = find_operator<Layer>("attnlstm::lstm_layer");
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return layer.call(
      data, lengths, h_0, c_0, weights, options.directions, options.batch_first,
      options.kept_steps, options.backward_overwrites);
}

struct LayerFunction : torch::autograd::Function<LayerFunction> {
  static constexpr bool is_traceable = true;

  // Returns output, h_n and c_n. Writes the gates and the cells, which have no gradient, to `kept`.
  static variable_list forward(
      AutogradContext* context, const Tensor& data, const Tensor& lengths,
      const OptionalTensor& h_0, const OptionalTensor& c_0, at::TensorList weights,
      const Options& options, std::pair<Tensor, Tensor>* kept) {
    const auto [output, h_n, c_n, gates, cells] =
        run_layer(data, lengths, h_0, c_0, weights, options);
    *kept = {gates, cells};
    variable_list saved = {data, lengths, h_0.value_or(Tensor()), c_0.value_or(Tensor()),
                           output, gates, cells};
    saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["directions"] = options.directions;
    context->saved_data["batch_first"] = options.batch_first;
    context->saved_data["backward_overwrites"] = options.backward_overwrites;
    context->set_materialize_grads(false);
    return {output, h_n, c_n};
  }

  // Returns the gradients of the arguments of forward, undefined where there is none.
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto optional = [](const Tensor& tensor) {
      return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
    };
    const variable_list saved = context->get_saved_variables();
    const Tensor &data = saved[0], &lengths = saved[1];
    const OptionalTensor h_0 = optional(saved[2]), c_0 = optional(saved[3]);
    const Tensor &output = saved[4], &gates = saved[5], &cells = saved[6];
    const at::TensorList weights = at::TensorList(saved).slice(7);
    const int64_t directions = context->saved_data["directions"].toInt();
    const bool batch_first = context->saved_data["batch_first"].toBool();
    const OptionalTensor d_output = optional(grads[0]), d_h_n = optional(grads[1]);
    const OptionalTensor d_c_n = optional(grads[2]);

    variable_list gradients;  // of data, lengths, h_0, c_0 and the weights
    if (needs_plain_gradients(grads)) {
      static const auto plain_backward =
          find_operator<LayerPlainBackward>("attnlstm::lstm_layer_plain_backward");
      for (const OptionalTensor& gradient : plain_backward.call(
               d_output, d_h_n, d_c_n, data, lengths, h_0, c_0, weights, directions, batch_first)) {
        gradients.push_back(gradient.value_or(Tensor()));
      }
    } else {
      static const auto copying = find_operator<LayerBackward>("attnlstm::lstm_layer_backward");
      static const auto overwriting = find_operator<LayerBackward>("attnlstm::lstm_layer_backward_");
      const bool overwrites =
          context->saved_data["backward_overwrites"].toBool() && !is_needed_again(gates);
      const auto [d_data, d_h_0, d_c_0, d_weights] = (overwrites ? overwriting : copying).call(
          d_output, d_h_n, d_c_n, data, lengths, h_0, c_0, weights, directions, batch_first, output,
          gates, cells, context->needs_input_grad(0));
      gradients = {d_data, Tensor(), d_h_0, d_c_0};
      gradients.insert(gradients.end(), d_weights.begin(), d_weights.end());
    }
    size_t edge = 0;  // numbers those arguments that are tensors
    for (size_t input = 0; input < gradients.size(); ++input) {
      const bool is_tensor = (input != 2 || h_0) && (input != 3 || c_0);
      if (!is_tensor || !context->needs_input_grad(edge++)) {
        gradients[input] = Tensor();
      }
    }
    constexpr size_t without_gradient = 2;  // the options and `kept`
    gradients.resize(gradients.size() + without_gradient);
    return gradients;
  }
};

Result lstm_layer(
    const Tensor& data, const Tensor& lengths, const OptionalTensor& h_0,
    const OptionalTensor& c_0, at::TensorList weights, int64_t directions, bool batch_first,
    c10::SymInt kept_steps, bool backward_overwrites) {
  const Options options{directions, batch_first, std::move(kept_steps), backward_overwrites};
  if (!at::GradMode::is_enabled()) {
    return run_layer(data, lengths, h_0, c_0, weights, options);
  }
  std::pair<Tensor, Tensor> kept;
  const variable_list results =
      LayerFunction::apply(data, lengths, h_0, c_0, weights, options, &kept);
  return {results[0], results[1], results[2], kept.first, kept.second};
}

}  // namespace
}  // namespace attnlstm

TORCH_LIBRARY_IMPL(attnlstm, Autograd, library) {
  library.impl("lstm_layer", attnlstm::lstm_layer);
}
