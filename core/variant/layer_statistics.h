// What calibration sees of the inputs of layers with weights: per channel, and how they go
// together. Streamed: memory O(layers), whatever the number of samples.
#ifndef HALFTONE_CORE_VARIANT_LAYER_STATISTICS_H_
#define HALFTONE_CORE_VARIANT_LAYER_STATISTICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/passes/accuracy.h"
#include "core/passes/linear.h"
#include "core/quant/rounding.h"
#include "core/tensor/tensor.h"

namespace halftone {

// Shows what each output of the layer is a product of: rows of linear.columns() numbers, one for
// each group and output position of `x`, the layer's input 0. At most `limit` positions, evenly
// spread. UNIMPLEMENTED for ConvTranspose and a transposed input of Gemm.
absl::Status ForEachInputRow(const Graph& graph, const Linear& linear, const Tensor& x,
                             int64_t limit,
                             const std::function<void(int64_t group, absl::Span<const float>)>& f);

// Mean and largest magnitude per index along one axis of a value. Thread-compatible.
class ChannelMeans {
 public:
  // Requires: f32; 0 <= axis < rank, the same size along it every time.
  void Observe(const Tensor& x, int axis);
  ChannelStats Stats() const;

 private:
  std::vector<double> sum_, max_abs_;
  int64_t count_ = 0;  // per channel
};

// Σ x·xᵀ of one layer's inputs, per group of a convolution. Thread-compatible.
class MomentObserver {
 public:
  explicit MomentObserver(const Linear& linear);

  absl::Status Observe(const Graph& graph, const Linear& linear, const Tensor& x);
  // Call once after the last sample. One for each group.
  std::vector<SecondMoment>& Finish();
  // What observing such a layer takes.
  static int64_t BytesFor(const Linear& linear);

 private:
  std::vector<SecondMoment> moments_;
  std::vector<std::vector<float>> pending_;  // rows not added yet, per group
};

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_LAYER_STATISTICS_H_
