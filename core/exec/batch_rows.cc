#include "core/exec/batch_rows.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "core/ops/random.h"

namespace halftone {
namespace {

// What is known of a value of the part.
enum class Kind : uint8_t {
  kRows,   // its axis 0 are the rows of the batch
  kSame,   // the same in both graphs
  kOther,  // neither, or unknown
};

class Rows {
 public:
  Rows(const Graph& whole, const Graph& part) : whole_(whole), part_(part) {}

  bool Run() {
    if (!FindSizes()) return false;
    for (const Value* v : part_.inputs()) kinds_[v] = Kind::kRows;
    for (const Node* node : part_.nodes()) {
      const Kind kind = KindOfOutputs(*node);
      for (const Value* out : node->outputs()) {
        if (out != nullptr) kinds_[out] = Fits(out, kind) ? kind : Kind::kOther;
      }
    }
    return std::all_of(part_.outputs().begin(), part_.outputs().end(),
                       [&](const Value* v) { return KindOf(v) == Kind::kRows; });
  }

 private:
  using Rule = bool (Rows::*)(const Node&) const;

  bool FindSizes() {
    const auto rows_of = [](const Graph& g, int64_t& rows) {
      for (const Value* v : g.inputs()) {
        const auto shape = Concrete(v->type().shape);
        if (!shape || shape->empty() || (rows >= 0 && (*shape)[0] != rows)) return false;
        rows = (*shape)[0];
      }
      return rows > 0;
    };
    return rows_of(whole_, whole_rows_) && rows_of(part_, part_rows_);
  }

  // --- values ---

  const Value* InWhole(const Value* v) const { return whole_.FindValue(v->name()); }

  // The shapes in both graphs are what the kind says.
  bool Fits(const Value* v, Kind kind) const {
    const Value* other = InWhole(v);
    if (kind == Kind::kOther || other == nullptr || v->type().type != other->type().type) {
      return false;
    }
    const auto part = Concrete(v->type().shape), whole = Concrete(other->type().shape);
    if (!part || !whole) return false;
    if (kind == Kind::kSame) return *part == *whole;
    return !part->empty() && part->size() == whole->size() && (*part)[0] == part_rows_ &&
           (*whole)[0] == whole_rows_ &&
           std::equal(part->begin() + 1, part->end(), whole->begin() + 1);
  }

  Kind KindOf(const Value* v) const {
    if (v->is_constant()) return SameConstant(v) ? Kind::kSame : Kind::kOther;
    const auto it = kinds_.find(v);
    return it == kinds_.end() ? Kind::kOther : it->second;
  }
  bool SameConstant(const Value* v) const {
    const Value* other = InWhole(v);
    if (other == nullptr || !other->is_constant()) return false;
    const Tensor &a = v->constant(), &b = other->constant();
    if (a.type() != b.type() || a.shape() != b.shape()) {
      return false;
    }
    return a.raw() == b.raw() ||
           std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.num_bytes())) == 0;
  }
  bool IsRows(const Value* v) const { return v != nullptr && KindOf(v) == Kind::kRows; }
  bool IsSame(const Value* v) const { return v == nullptr || KindOf(v) == Kind::kSame; }
  static int RankOf(const Value* v) {
    return v->type().shape ? static_cast<int>(v->type().shape->size()) : -1;
  }

  // --- nodes ---

  Kind KindOfOutputs(const Node& node) const {
    const auto same = [&](const Value* v) { return IsSame(v); };
    if (std::all_of(node.inputs().begin(), node.inputs().end(), same)) {
      return IsRandom(node) ? Kind::kOther : Kind::kSame;
    }
    const Rule rule = RuleFor(node);
    return rule != nullptr && (this->*rule)(node) ? Kind::kRows : Kind::kOther;
  }

  // All inputs against each other: one that is the same for all rows must not reach axis 0.
  bool Broadcasts(const Node& node) const {
    const int rank = RankOf(node.output(0));
    return std::all_of(node.inputs().begin(), node.inputs().end(), [&](const Value* v) {
      if (v == nullptr) return true;
      if (IsRows(v)) return RankOf(v) == rank;
      if (!IsSame(v)) return false;
      const auto shape = Concrete(v->type().shape);
      return shape && (static_cast<int>(shape->size()) < rank || (*shape)[0] == 1);
    });
  }
  // Weights and parameters beside the data.
  bool TakesFirst(const Node& node) const {
    return IsRows(node.input(0)) && std::all_of(node.inputs().begin() + 1, node.inputs().end(),
                                                [&](const Value* v) { return IsSame(v); });
  }
  // Likewise; the second output of a pooling would count through all rows.
  bool TakesFirstAlone(const Node& node) const {
    return TakesFirst(node) && node.output(1) == nullptr &&
           node.attributes().Int("training_mode", 0) == 0;
  }
  // Other inputs say where elements go, and may depend on the size: the shapes have the last word.
  bool Reshapes(const Node& node) const { return IsRows(node.input(0)); }
  bool Resizes(const Node& node) const {
    const absl::string_view crop = "tf_crop_and_resize";
    return IsRows(node.input(0)) &&
           node.attributes().String("coordinate_transformation_mode", "") != crop;
  }
  bool Pads(const Node& node) const {
    const Value* pads = node.input(1);
    if (!TakesFirst(node) || pads == nullptr || !pads->is_constant() || node.input(3) != nullptr ||
        pads->constant().type() != DataType::kI64) {
      return false;
    }
    const auto list = pads->constant().data<int64_t>();
    return !list.empty() && list[0] == 0 && list[list.size() / 2] == 0;
  }
  bool Transposes(const Node& node) const {
    const std::vector<int64_t> perm = node.attributes().Ints("perm");
    return IsRows(node.input(0)) && !perm.empty() && perm[0] == 0;
  }
  static bool IsOtherAxis(int64_t axis, int rank) { return axis != 0 && axis != -rank; }
  // Along an axis that is not that of the rows.
  bool AlongAxis(const Node& node, int64_t fallback) const {
    const bool all = std::all_of(node.inputs().begin(), node.inputs().end(),
                                 [&](const Value* v) { return v == nullptr || IsRows(v); });
    return all && IsOtherAxis(node.attributes().Int("axis", fallback), RankOf(node.input(0)));
  }
  bool Softmaxes(const Node& node) const { return AlongAxis(node, -1); }
  bool Concatenates(const Node& node) const { return AlongAxis(node, 0); }
  bool Normalizes(const Node& node) const {
    return TakesFirst(node) &&
           IsOtherAxis(node.attributes().Int("axis", -1), RankOf(node.input(0)));
  }
  bool Splits(const Node& node) const {
    return TakesFirst(node) && IsOtherAxis(node.attributes().Int("axis", 0), RankOf(node.input(0)));
  }
  bool Quantizes(const Node& node) const {
    if (!TakesFirst(node)) return false;
    const auto scale = Concrete(node.input(1)->type().shape);
    return scale && (ElementCount(*scale) == 1 ||
                     IsOtherAxis(node.attributes().Int("axis", 1), RankOf(node.input(0))));
  }
  bool HasOtherAxes(const Node& node, const Value* axes) const {
    if (axes == nullptr || !axes->is_constant() || axes->constant().type() != DataType::kI64) {
      return false;
    }
    const auto list = axes->constant().data<int64_t>();
    return std::all_of(list.begin(), list.end(),
                       [&](int64_t axis) { return IsOtherAxis(axis, RankOf(node.input(0))); });
  }
  bool Reduces(const Node& node) const {
    if (!IsRows(node.input(0))) return false;
    if (node.input(1) != nullptr) return HasOtherAxes(node, node.input(1));
    const std::vector<int64_t> axes = node.attributes().Ints("axes");
    return !axes.empty() && std::all_of(axes.begin(), axes.end(), [&](int64_t axis) {
      return IsOtherAxis(axis, RankOf(node.input(0)));
    });
  }
  bool Slices(const Node& node) const {
    return TakesFirst(node) && HasOtherAxes(node, node.input(3));
  }
  bool Multiplies(const Node& node) const {
    const Value *a = node.input(0), *b = node.input(1);
    if (!IsRows(a) || RankOf(a) < 2) return false;
    if (IsRows(b)) return RankOf(a) == RankOf(b) && RankOf(a) > 2;
    return IsSame(b) && RankOf(b) <= RankOf(a) &&
           (RankOf(b) < RankOf(a) || RankOf(a) == 2 || (*Concrete(b->type().shape))[0] == 1);
  }
  bool MultipliesMatrix(const Node& node) const {
    if (node.attributes().Int("transA", 0) != 0 || !TakesFirst(node)) return false;
    const Value* c = node.input(2);
    return c == nullptr || RankOf(c) < 2 || (*Concrete(c->type().shape))[0] == 1;
  }
  // Rows of a table, or elements of each row.
  bool Gathers(const Node& node) const {
    const Value *data = node.input(0), *indices = node.input(1);
    const int64_t axis = node.attributes().Int("axis", 0);
    if (IsSame(data) && IsRows(indices)) return !IsOtherAxis(axis, RankOf(data));
    return IsRows(data) && IsSame(indices) && IsOtherAxis(axis, RankOf(data));
  }

  static Rule RuleFor(const Node& node) {
    struct Row {
      Rule rule;
      std::vector<absl::string_view> ops;
    };
    static const auto* const kRows = new std::vector<Row>{
        {&Rows::Broadcasts,
         {"Abs",     "Add",     "And",         "Cast",       "Ceil",     "Celu",      "Clip",
          "Cos",     "Div",     "Elu",         "Equal",      "Erf",      "Exp",       "Floor",
          "Gelu",    "Greater", "HardSigmoid", "HardSwish",  "Identity", "LeakyRelu", "Less",
          "Log",     "Max",     "Min",         "Mish",       "Mul",      "Neg",       "Not",
          "Or",      "PRelu",   "Pow",         "Reciprocal", "Relu",     "Round",     "Selu",
          "Sigmoid", "Sign",    "Sin",         "Softplus",   "Softsign", "Sqrt",      "Sub",
          "Tanh",    "Where"}},
        {&Rows::TakesFirstAlone,
         {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace",
          "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization",
          "LRN", "MaxPool", "SpaceToDepth"}},
        {&Rows::Reshapes, {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}},
        {&Rows::Resizes, {"Resize"}},
        {&Rows::Pads, {"Pad"}},
        {&Rows::Transposes, {"Transpose"}},
        {&Rows::Softmaxes, {"LogSoftmax", "Softmax"}},
        {&Rows::Concatenates, {"Concat"}},
        {&Rows::Normalizes, {"LayerNormalization"}},
        {&Rows::Splits, {"Split"}},
        {&Rows::Quantizes, {"DequantizeLinear", "QuantizeLinear"}},
        {&Rows::Reduces, {"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}},
        {&Rows::Slices, {"Slice"}},
        {&Rows::Multiplies, {"MatMul"}},
        {&Rows::MultipliesMatrix, {"Gemm"}},
        {&Rows::Gathers, {"Gather"}},
    };
    static const auto* const kTable = [] {
      auto* table = new absl::flat_hash_map<absl::string_view, Rule>;
      for (const Row& row : *kRows) {
        for (const absl::string_view op : row.ops) (*table)[op] = row.rule;
      }
      return table;
    }();
    const auto it = node.domain().empty() ? kTable->find(node.op()) : kTable->end();
    return it == kTable->end() ? nullptr : it->second;
  }

  const Graph& whole_;
  const Graph& part_;
  int64_t whole_rows_ = -1, part_rows_ = -1;
  absl::flat_hash_map<const Value*, Kind> kinds_;
};

}  // namespace

bool RowsAreIndependent(const Graph& whole, const Graph& part) { return Rows(whole, part).Run(); }

}  // namespace halftone
