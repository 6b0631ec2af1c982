#include "core/variant/compare.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/quant/error_stats.h"
#include "core/variant/observed_graph.h"

namespace halftone {
namespace {

// Floats that are compared; f64 outputs of models that are computed in f32 hold nothing more.
bool IsCompared(const Tensor& t) {
  return t.type() == DataType::kF32 || t.type() == DataType::kF64;
}
absl::StatusOr<Tensor> AsF32(const Tensor& t) {
  return t.type() == DataType::kF32 ? t : Convert(t, DataType::kF32);
}

// Classifiers answer [classes] or [batch, classes].
bool IsClassifierShaped(const Tensor& t) {
  return IsCompared(t) && (t.rank() == 1 || t.rank() == 2) && t.dim(t.rank() - 1) >= 2;
}

absl::Status ShapesDiffer(const std::string& name, const Tensor& want, const Tensor& got) {
  return absl::InternalError(absl::StrCat("compare: '", name, "': the variant gives ",
                                          ToString(got.shape()), ", fp32 gives ",
                                          ToString(want.shape())));
}

}  // namespace

absl::StatusOr<Comparison> CompareOutputs(const Graph& fp32, const RunnableGraph& reference,
                                          const RunnableGraph& variant, const Samples& samples,
                                          int count, const StepFn& step) {
  Comparison out;
  const std::vector<Value*>& outputs = fp32.outputs();
  std::vector<ErrorStats> each(outputs.size());
  ErrorStats all;
  Top1Agreement top1;
  for (out.samples = 0; out.samples < count; ++out.samples) {
    HT_ASSIGN_OR_RETURN(const std::vector<Tensor> want, reference.run(samples[out.samples]));
    HT_ASSIGN_OR_RETURN(const std::vector<Tensor> got, variant.run(samples[out.samples]));
    for (size_t i = 0; i < want.size(); ++i) {
      if (!IsCompared(want[i])) continue;
      if (want[i].shape() != got[i].shape()) {
        return ShapesDiffer(outputs[i]->name(), want[i], got[i]);
      }
      HT_ASSIGN_OR_RETURN(const Tensor a, AsF32(want[i]));
      HT_ASSIGN_OR_RETURN(const Tensor b, AsF32(got[i]));
      each[i].Add(a.data<float>(), b.data<float>());
      all.Add(a.data<float>(), b.data<float>());
      if (i == 0 && IsClassifierShaped(a)) {
        top1.Add(a.data<float>(), b.data<float>(), a.dim(a.rank() - 1));
      }
    }
    HT_RETURN_IF_ERROR(step(out.samples + 1, count));
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (each[i].count() > 0) out.outputs.push_back({outputs[i]->name(), each[i].sqnr_db()});
  }
  out.sqnr_db = all.sqnr_db();
  out.max_abs_error = all.max_abs_error();
  if (top1.rows() > 0) out.top1_agreement = top1.agreement();
  out.top1_degenerate = top1.degenerate();
  return out;
}

absl::StatusOr<std::map<std::string, double>> CompareLayers(const GraphToRun& fp32,
                                                            const GraphToRun& variant,
                                                            const std::vector<std::string>& names,
                                                            const Samples& samples, int count,
                                                            const StepFn& step) {
  HT_ASSIGN_OR_RETURN(const ObservedGraph reference,
                      ObservedGraph::Create(fp32.graph, names, fp32.runner));
  HT_ASSIGN_OR_RETURN(const ObservedGraph narrow,
                      ObservedGraph::Create(variant.graph, names, variant.runner));
  std::map<std::string, ErrorStats> stats;
  for (int i = 0; i < count; ++i) {
    HT_ASSIGN_OR_RETURN(const auto want, reference.Run(samples[i]));
    HT_ASSIGN_OR_RETURN(const auto got, narrow.Run(samples[i]));
    for (const auto& [name, tensor] : want) {
      const auto other = got.find(name);
      if (other == got.end()) continue;
      if (tensor.shape() != other->second.shape()) return ShapesDiffer(name, tensor, other->second);
      stats[name].Add(tensor.data<float>(), other->second.data<float>());
    }
    HT_RETURN_IF_ERROR(step(i + 1, count));
  }
  std::map<std::string, double> out;
  for (const auto& [name, s] : stats) out[name] = s.sqnr_db();
  return out;
}

}  // namespace halftone
