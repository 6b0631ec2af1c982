// Rewrites that lose less when the graph is quantized afterwards. EqualizeLayers and SmoothInputs
// keep what the f32 graph computes (up to rounding): they only move scales to where they hurt less.
// Deterministic and single-threaded.
#ifndef HALFTONE_CORE_PASSES_ACCURACY_H_
#define HALFTONE_CORE_PASSES_ACCURACY_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"

namespace halftone {

// What calibration saw of one value, per index along the axis that products sum over.
struct ChannelStats {
  std::vector<double> mean;
  std::vector<double> max_abs;
};
using ChannelStatsMap = std::map<std::string, ChannelStats>;  // by name of the value

// Cross-layer equalization (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
// and Bias Correction", arXiv 1906.04721, section 4.1): between two layers with only positively
// homogeneous operators (Relu, LeakyRelu, pooling) in between, channel i of the first is divided
// and what it meets in the second multiplied by s_i = sqrt(r1_i / r2_i), where r are the largest
// magnitudes of the weights. Repeats until nothing moves. Returns how many pairs it equalized.
absl::StatusOr<int> EqualizeLayers(Graph& graph);

// SmoothQuant (Xiao et al. 2022, arXiv 2211.10438): where a LayerNormalization feeds products only,
// input channel j is divided by s_j = sqrt(max|X_j| / max|W_j|), in the normalisation's own scale
// and bias, and the weights that it meets are multiplied. `stats` holds the normalisations'
// outputs. Returns how many normalisations it smoothed.
absl::StatusOr<int> SmoothInputs(Graph& graph, const ChannelStatsMap& stats);
// The values whose statistics SmoothInputs wants.
std::vector<std::string> ValuesToSmooth(const Graph& graph);

// Analytic bias correction (Nagel et al. 2019, section 4.2): rounding weights W to Ŵ shifts the
// mean of a layer's output by (Ŵ − W)·E[x], which its bias takes back. `linear_node` has the
// weights W, `widened` is Ŵ. The mean ignores the borders of padded convolutions. False where the
// node has no bias to put it in: MatMul without an Add behind it, or a bias that is computed.
absl::StatusOr<bool> CorrectBias(Graph& graph, Node* linear_node, const Tensor& widened,
                                 const ChannelStats& input);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_ACCURACY_H_
