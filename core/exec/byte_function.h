// A function of one 8-bit tensor, element by element, whose result is 8 bits again: 256 cases, so a
// table computes it exactly, whatever it is made of.
#ifndef HALFTONE_CORE_EXEC_BYTE_FUNCTION_H_
#define HALFTONE_CORE_EXEC_BYTE_FUNCTION_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "core/exec/fusion.h"

namespace halftone {

struct ByteFunction {
  TensorQuant x;       // what it reads; static
  TensorQuant result;  // what it writes; static
  // Behind the DequantizeLinear of x up to the QuantizeLinear of the result, in execution order.
  // Pairs of quantization in between belong to the function.
  std::vector<Node*> nodes;
};

// What ends in `quantize`: SiLU as Mul(x, Sigmoid(x)), Gelu in its parts, one operator, or none
// (the same numbers at another scale), between static parameters per tensor, with scalar constants,
// and with nothing in between that others read or that `taken` holds. nullopt: it is something
// else.
std::optional<ByteFunction> MatchByteFunction(Node* quantize,
                                              const std::function<bool(const Node*)>& taken);

// table[byte of x] = byte of the result, by the reference evaluations of the nodes.
using ByteTable = std::array<uint8_t, 256>;
absl::StatusOr<ByteTable> Tabulate(const Graph& graph, const ByteFunction& function);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_BYTE_FUNCTION_H_
