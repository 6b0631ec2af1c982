// Quantize and dequantize nodes that no neighbour absorbed, and dynamic quantization.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/exec/kernels/convert.h"
#include "core/exec/kernels/row_quant.h"
#include "core/exec/lower/rules.h"

namespace halftone {

absl::StatusOr<bool> LowerByteTable(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  if (unit.byte_function == nullptr) {
    *reason = "";
    return false;
  }
  const ByteFunction& f = *unit.byte_function;
  HT_ASSIGN_OR_RETURN(const ByteTable table, Tabulate(b.graph(), f));
  const Value* x = f.x.quantized;
  const Layout layout = b.PlaceOf(x).layout;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, layout, f.x.type));
  const BufferId result = b.DefineOver(x, source, f.result.quantized, layout, f.result.type);
  const int64_t n = ElementCount(b.ShapeOf(x));
  const std::string ops = absl::StrJoin(
      f.nodes, "+", [](std::string* out, const Node* node) { absl::StrAppend(out, node->op()); });
  b.AddStep({unit.anchor->name(), ops, "", "table of 256 bytes", "int8"}, {source, result},
            [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                RunByteTable(table.data(), bind.as<uint8_t>(source), bind.as<uint8_t>(result), n);
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerQuantize(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const auto q = MatchQuantize(node);
  const Value* x = node.input(0);
  if (!q || x->type().type != DataType::kF32) {
    *reason = "not per tensor to 8 bits";
    return false;
  }
  const Layout layout = b.PlaceOf(x).layout;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, layout, DataType::kF32));
  const BufferId result = b.Define(q->quantized, layout, q->type);
  const int64_t n = ElementCount(b.ShapeOf(x));
  b.AddStep({node.name(), node.op(), "", "quantize", "int8"}, {source, result},
            [=, view = q->view](Binding& bind) -> BoundStep {
              return [=, &bind] {
                QuantizeF32(bind.as<float>(source), view.scale, view.zero_point, view.type,
                            bind.pointer(result), n);
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerDequantize(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* out = node.output(0);
  const auto q = MatchDequantize(out);
  if (!q || out->type().type != DataType::kF32) {
    *reason = "not per tensor from 8 bits";
    return false;
  }
  const Layout layout = b.PlaceOf(q->quantized).layout;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(q->quantized, layout, q->type));
  BufferId scale = -1, zero_point = -1;
  std::vector<BufferId> touches = {source};
  if (!q->is_static) {
    HT_ASSIGN_OR_RETURN(scale, b.FetchPlain(q->scale_value));
    touches.push_back(scale);
    if (q->zero_point_value != nullptr) {
      HT_ASSIGN_OR_RETURN(zero_point, b.FetchPlain(q->zero_point_value));
      touches.push_back(zero_point);
    }
  }
  const BufferId result = b.Define(out, layout, DataType::kF32);
  touches.push_back(result);
  const int64_t n = ElementCount(b.ShapeOf(out));
  b.AddStep({node.name(), node.op(), "", "dequantize", "int8"}, std::move(touches),
            [=, view = q->view, type = q->type](Binding& bind) -> BoundStep {
              return [=, &bind] {
                const float s = scale < 0 ? view.scale : *bind.as<float>(scale);
                int32_t z = view.zero_point;
                if (scale >= 0) z = zero_point < 0 ? 0 : *bind.as<uint8_t>(zero_point);
                DequantizeToF32(type, bind.pointer(source), s, z, bind.as<float>(result), n);
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerDynamicQuantize(ProgramBuilder& b, const Unit& unit,
                                          std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  if (x->type().type != DataType::kF32 || node.outputs().size() != 3 || node.output(0) == nullptr ||
      node.output(1) == nullptr || node.output(2) == nullptr) {
    *reason = "outputs";
    return false;
  }
  const Layout layout = b.PlaceOf(x).layout;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, layout, DataType::kF32));
  const BufferId q = b.Define(node.output(0), layout, DataType::kU8);
  const BufferId scale = b.Define(node.output(1), Layout::kPlain, DataType::kF32);
  const BufferId zero_point = b.Define(node.output(2), Layout::kPlain, DataType::kU8);
  const int64_t n = ElementCount(b.ShapeOf(x));
  b.AddStep({node.name(), node.op(), "", "dynamic quantize", "int8"},
            {source, q, scale, zero_point}, [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                const float* data = bind.as<float>(source);
                const DynamicParams p = ChooseDynamicParams(FindRange(data, n));
                *bind.as<float>(scale) = p.scale;
                *bind.as<uint8_t>(zero_point) = p.zero_point;
                QuantizeF32(data, p.scale, p.zero_point, DataType::kU8, bind.pointer(q), n);
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerQuantizeRows(ProgramBuilder& b, const Unit& unit,
                                       std::string* /*reason*/) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Shape shape = b.ShapeOf(x);
  const int64_t n = shape.back(), rows = n == 0 ? 0 : ElementCount(shape) / n;
  if (rows == 0) return false;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(x));
  const BufferId codes = b.Define(node.output(0), Layout::kPlain, DataType::kU8);
  const BufferId scale = b.Define(node.output(1), Layout::kPlain, DataType::kF32);
  const BufferId zero_point = b.Define(node.output(2), Layout::kPlain, DataType::kU8);
  b.AddStep({node.name(), node.op(), "", "quantize rows", "int8"},
            {source, codes, scale, zero_point}, [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                QuantizeRows(bind.as<float>(source), rows, n, bind.as<uint8_t>(codes),
                             bind.as<float>(scale), bind.as<uint8_t>(zero_point));
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
