// LSTM, GRU and RNN layers on packed weights. At batch 1, where these layers live, a step is a
// matrix-vector product whose weights stream from the cache; the input's share of all steps is one
// product before.
#ifndef HALFTONE_CORE_EXEC_KERNELS_RECURRENT_H_
#define HALFTONE_CORE_EXEC_KERNELS_RECURRENT_H_

#include <cstdint>

#include "core/exec/kernels/panels.h"

namespace halftone {

enum class CellKind : uint8_t {
  kLstm,       // gates i, o, f, c
  kGru,        // gates z, r, h; the reset gate acts on the state before its product
  kGruLinear,  // the reset gate acts on the product (linear_before_reset)
  kRnnTanh,
  kRnnRelu,
};
int GateCount(CellKind kind);

// One direction of a layer, with the default activations.
struct RecurrentLayer {
  CellKind kind = CellKind::kLstm;
  int64_t steps = 0, batch = 0, in = 0, hidden = 0;
  bool batch_first = false;
  bool reverse = false;
  int64_t directions = 1, direction = 0;
  Panels w;                               // [in, gates · hidden]
  Panels r;                               // [hidden, gates · hidden]; GRU: gates z and r,
  Panels r_candidate;                     // and [hidden, hidden] of gate h
  const float* bias = nullptr;            // [gates · hidden]: both biases, but see next
  const float* candidate_bias = nullptr;  // GRU, [hidden]: the recurrent bias of gate h
};
int64_t RecurrentScratchFloats(const RecurrentLayer& layer);

// x, y and the states as in ONNX for all directions; this call reads and writes its own part. Null:
// initial states of zero, outputs that nobody wants. `c0` and `yc` are LSTM's.
void RunRecurrent(const RecurrentLayer& layer, const float* x, const float* h0, const float* c0,
                  float* y, float* yh, float* yc, float* scratch);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_RECURRENT_H_
