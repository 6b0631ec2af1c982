// Reductions over any axes on our own loops: oneDNN has only reference code for most of them.
#include <algorithm>

#include "core/base/status_macros.h"
#include "core/exec/kernels/reduce.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/rules.h"
#include "core/ops/known_arguments.h"

namespace halftone {
namespace {

// A channels-last tensor can be reduced as it is stored when the kept dimensions then come out in
// their logical order, or are all there.
bool WorksChannelsLast(const std::vector<bool>& reduced, bool keeps_rank) {
  bool spatial_kept = false;
  for (size_t i = 2; i < reduced.size(); ++i) spatial_kept |= !reduced[i];
  return keeps_rank || reduced[1] || !spatial_kept;
}

}  // namespace

absl::StatusOr<bool> LowerReduce(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(x), result_shape = b.ShapeOf(out);
  const ReduceFn run = FindReduce(node.op(), *x->type().type);
  HT_ASSIGN_OR_RETURN(const auto reduced, ReducedDimensions(b.Arguments(node), shape));
  if (run == nullptr || !reduced || ElementCount(shape) == 0) {
    *reason = run == nullptr ? "no loop for this type" : "axes or size";
    return false;
  }
  if (std::find(reduced->begin(), reduced->end(), true) == reduced->end() && !shape.empty()) {
    // Nothing is asked for (noop_with_empty_axes): the input itself, not its norm or its logarithm.
    HT_RETURN_IF_ERROR(b.FetchStrided(x).status());
    b.DefineIn(out, b.PlaceOf(x));
    return true;
  }
  const bool keeps_rank = result_shape.size() == shape.size();
  const Layout layout =
      b.LayoutOf(x) == Layout::kChannelsLast && WorksChannelsLast(*reduced, keeps_rank)
          ? Layout::kChannelsLast
          : Layout::kPlain;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, layout, *x->type().type));
  const BufferId result = b.Define(out, keeps_rank ? layout : Layout::kPlain, *out->type().type);
  const Shape flags = StorageOrder(Shape(reduced->begin(), reduced->end()), layout);
  const Reduction r = Simplify(
      Reduction{StorageOrder(shape, layout), std::vector<bool>(flags.begin(), flags.end())});
  b.AddStep({node.name(), node.op(), "", "loop", std::string(Name(*x->type().type))},
            {source, result}, [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                run(r, bind.pointer(source), bind.pointer(result));
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
