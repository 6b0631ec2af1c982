#include "core/exec/lower/primitive.h"

#include <memory>
#include <unordered_map>

#include "core/base/checked_math.h"
#include "core/exec/kernels/convert.h"

namespace halftone {

dnnl::primitive_attr BaseAttributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

BufferId FloatConstant(ProgramBuilder& builder, absl::Span<const float> values) {
  return builder.Constant(Tensor::Of<float>({static_cast<int64_t>(values.size())}, values));
}

BufferId IntConstant(ProgramBuilder& builder, int32_t value) {
  return builder.Constant(Tensor::Of<int32_t>({1}, {value}));
}

namespace {

std::unordered_map<int, dnnl::memory> BindArgs(Binding& b, const std::vector<PrimitiveArg>& args,
                                               const dnnl::memory::desc& scratchpad,
                                               std::byte* scratch) {
  std::unordered_map<int, dnnl::memory> bound;
  for (const PrimitiveArg& arg : args) {
    bound[arg.index] = b.Memory(arg.desc, arg.buffer, arg.byte_offset);
  }
  bound[DNNL_ARG_SCRATCHPAD] = dnnl::memory(scratchpad, CpuEngine(), scratch);
  return bound;
}

struct BoundCall {
  dnnl::primitive primitive;
  std::unordered_map<int, dnnl::memory> args;
};

}  // namespace

void AddPrimitive(ProgramBuilder& builder, StepInfo info, PrimitiveStep step) {
  const int64_t widened_bytes =
      step.widened ? AlignUp(static_cast<int64_t>(step.widened->desc.get_size()), 64) : 0;
  builder.RequireScratch(widened_bytes + static_cast<int64_t>(step.scratchpad.get_size()));
  std::vector<BufferId> touches;
  for (const PrimitiveArg& arg : step.args) touches.push_back(arg.buffer);
  for (const PrimitiveCall& call : step.before) {
    builder.RequireScratch(static_cast<int64_t>(call.scratchpad.get_size()));
    for (const PrimitiveArg& arg : call.args) touches.push_back(arg.buffer);
  }
  if (step.widened && step.widened->buffer >= 0) touches.push_back(step.widened->buffer);
  if (step.widened) info.bytes += step.widened->bytes;
  if (step.zero_point) touches.push_back(step.zero_point->buffer);
  auto shared = std::make_shared<const PrimitiveStep>(std::move(step));
  builder.AddStep(std::move(info), std::move(touches), [shared, widened_bytes](Binding& b) {
    std::vector<BoundCall> before;
    for (const PrimitiveCall& call : shared->before) {
      before.push_back({call.primitive, BindArgs(b, call.args, call.scratchpad, b.scratch())});
    }
    auto args = BindArgs(b, shared->args, shared->scratchpad, b.scratch() + widened_bytes);
    int64_t widened_count = 0;
    if (shared->widened) {
      args[DNNL_ARG_WEIGHTS] = dnnl::memory(shared->widened->desc, CpuEngine(), b.scratch());
      widened_count = static_cast<int64_t>(shared->widened->desc.get_size()) / 4;
    }
    auto zero_point = std::make_shared<int32_t>(0);
    if (shared->zero_point) {
      args[shared->zero_point->index] =
          dnnl::memory({{1}, dnnl::memory::data_type::s32, dnnl::memory::format_tag::a},
                       CpuEngine(), zero_point.get());
    }
    return [shared, widened_count, zero_point, before = std::move(before), args = std::move(args),
            &b]() -> absl::Status {
      if (shared->widened) {
        auto* wide = reinterpret_cast<float*>(b.scratch());
        if (shared->widened->widen) {
          shared->widened->widen(wide);
        } else {
          WidenToF32(shared->widened->stored, b.pointer(shared->widened->buffer), wide,
                     widened_count);
        }
      }
      if (shared->zero_point) *zero_point = *b.as<uint8_t>(shared->zero_point->buffer);
      try {
        for (const BoundCall& call : before) call.primitive.execute(b.stream(), call.args);
        shared->primitive.execute(b.stream(), args);
      } catch (const dnnl::error& e) {
        return absl::InternalError(absl::StrCat("oneDNN: ", e.what()));
      }
      return absl::OkStatus();
    };
  });
}

}  // namespace halftone
