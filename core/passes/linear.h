// Nodes that are linear in constant f32 weights (Conv, ConvTranspose, Gemm, MatMul), seen the same
// way: one row per output channel, and in it one column for each number that the channel sums over.
#ifndef HALFTONE_CORE_PASSES_LINEAR_H_
#define HALFTONE_CORE_PASSES_LINEAR_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"

namespace halftone {

struct Linear {
  Node* node = nullptr;
  const Tensor* weights = nullptr;  // input 1
  int rank = 0;                     // of the output
  int channel_axis = 0;             // of the output
  int input_axis = 0;               // of input 0: its channels
  int64_t outputs = 0, inputs = 0;  // channels
  int64_t groups = 1;
  int64_t taps = 1;         // of a convolution's kernel
  bool takes_bias = false;  // as input 2

  // A row's columns: input channels of its group, taps innermost.
  int64_t columns() const { return inputs / groups * taps; }
  // Where the weight of a row and column lies in the tensor.
  int64_t IndexOf(int64_t row, int64_t column) const {
    const int64_t input = column / taps, tap = column % taps;
    if (!transposed) return row * output_stride + input * input_stride + tap;
    const int64_t rows_per_group = outputs / groups;
    return (row / rows_per_group * (inputs / groups) + input) * input_stride +
           row % rows_per_group * output_stride + tap;
  }
  // The channel of input 0 that meets this weight.
  int64_t InputOf(int64_t row, int64_t column) const {
    return row / (outputs / groups) * (inputs / groups) + column / taps;
  }

  int64_t output_stride = 0, input_stride = 0;
  bool transposed = false;  // ConvTranspose: input channels are not counted from the group's start
};

// nullopt for other nodes, and for weights that are not constant, not f32 or empty.
std::optional<Linear> AsLinear(Node* node);
// As above for the producer of a value.
std::optional<Linear> AsLinear(const Value* value);

// A constant that broadcasts along the output's channels only, as one number per channel.
std::optional<std::vector<double>> PerOutputChannel(const Tensor& t, const Linear& linear);
// The bias, per channel; zeros where it is absent, nullopt if it cannot be seen that way.
std::optional<std::vector<double>> ReadBias(const Linear& linear);
// Requires: linear.takes_bias; one number per output channel. The node's bias is exactly this then.
void SetBias(Graph& graph, const Linear& linear, absl::Span<const double> bias);

// The largest magnitude among the weights that each input channel meets.
std::vector<double> LargestByInput(const Linear& linear);

// Multiplies each row (or what each input channel meets) by a number of its own. Empty: by one.
// Constants that others share are copied. `linear.weights` is stale afterwards.
absl::Status ScaleWeights(Graph& graph, const Linear& linear, absl::Span<const double> by_output,
                          absl::Span<const double> by_input);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_LINEAR_H_
