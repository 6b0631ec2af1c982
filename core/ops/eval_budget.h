// What evaluations may cost, so that a tiny file cannot ask for hours or terabytes.
//
//   ScopedEvalBudget budget({.work = 1 << 28, .bytes = 64 << 20});
//   EvaluateNode(…);   // RESOURCE_EXHAUSTED once this thread's budget is spent
//
// Counted, not timed: whether something is folded must not depend on the machine.
#ifndef HALFTONE_CORE_OPS_EVAL_BUDGET_H_
#define HALFTONE_CORE_OPS_EVAL_BUDGET_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

struct EvalBudget {
  int64_t work;   // elementary operations: a multiply-add, a moved element
  int64_t bytes;  // of all tensors that evaluations allocate, whether they stay or not
};

// Limits the evaluations of this thread while it exists. An inner budget never exceeds what is left
// of the outer one, and counts towards it.
class ScopedEvalBudget {
 public:
  explicit ScopedEvalBudget(const EvalBudget& budget);
  ~ScopedEvalBudget();
  ScopedEvalBudget(const ScopedEvalBudget&) = delete;
  ScopedEvalBudget& operator=(const ScopedEvalBudget&) = delete;

 private:
  const EvalBudget outer_left_;
  const EvalBudget granted_;
};

// Asked before each node that this thread evaluates while it exists: an error ends the evaluation
// with it, inside of loops too. `stop` must live as long; an inner one is asked instead of the
// outer.
using StopFn = std::function<absl::Status()>;
class ScopedEvalStop {
 public:
  explicit ScopedEvalStop(const StopFn& stop);
  ~ScopedEvalStop();
  ScopedEvalStop(const ScopedEvalStop&) = delete;
  ScopedEvalStop& operator=(const ScopedEvalStop&) = delete;

 private:
  const StopFn* const outer_;
};

// Take from this thread's budget; RESOURCE_EXHAUSTED, and nothing is taken, when it is too small.
// Without a budget everything is granted. SpendWork also asks whether to stop.
absl::Status SpendWork(int64_t work);
absl::Status SpendBytes(int64_t bytes);

// What evaluating a node costs besides its arithmetic.
inline constexpr int64_t kWorkPerNode = 1000;
// About how many elementary operations the reference evaluation of a node takes; saturates. Never
// zero. `output_types` is what inference says; what it does not know counts as nothing.
int64_t EstimateWork(const Node& node, absl::Span<const Tensor* const> inputs,
                     absl::Span<const ValueType> output_types);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_EVAL_BUDGET_H_
