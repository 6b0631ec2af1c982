#include "core/ops/infer_util.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {

absl::Status CheckType(const InferContext& c, int i, TypeSet set) {
  if (!c.has_input(i) || !c.input(i).type.has_value()) return absl::OkStatus();
  if (Contains(set, *c.input(i).type)) return absl::OkStatus();
  std::string wanted;
  for (const DataTypeInfo& info : kDataTypes) {
    if (Contains(set, info.type)) absl::StrAppend(&wanted, wanted.empty() ? "" : " ", info.name);
  }
  return c.Error(
      absl::StrCat("input ", i, " has type ", Name(*c.input(i).type), ", want one of: ", wanted));
}

absl::Status CheckSameType(const InferContext& c, int a, int b) {
  if (!c.has_input(a) || !c.has_input(b)) return absl::OkStatus();
  const std::optional<DataType> ta = c.input(a).type, tb = c.input(b).type;
  if (!ta.has_value() || !tb.has_value() || *ta == *tb) return absl::OkStatus();
  return c.Error(absl::StrCat("inputs ", a, " and ", b, " have types ", Name(*ta), " and ",
                              Name(*tb), ", want the same"));
}

absl::Status CheckRank(const InferContext& c, int i, int min, int max) {
  if (!c.has_input(i) || !c.input(i).shape.has_value()) return absl::OkStatus();
  const int rank = static_cast<int>(c.input(i).shape->size());
  if (rank >= min && rank <= max) return absl::OkStatus();
  return c.Error(absl::StrCat("input ", i, " has rank ", rank, ", want ", min,
                              min == max ? std::string() : absl::StrCat(" to ", max)));
}

absl::Status CheckVector(const InferContext& c, int i, const Dim& size) {
  HT_RETURN_IF_ERROR(CheckRank(c, i, 1, 1));
  if (!c.has_input(i) || !c.input(i).shape.has_value()) return absl::OkStatus();
  const Dim& got = (*c.input(i).shape)[0];
  if (!got.known() || !size.known() || got.value == size.value) return absl::OkStatus();
  return c.Error(absl::StrCat("input ", i, " has ", got.value, " elements, want ", size.value));
}

absl::Status CheckOneElement(const InferContext& c, int i) {
  if (!c.has_input(i)) return absl::OkStatus();
  const std::optional<Shape> shape = Concrete(c.input(i).shape);
  if (!shape.has_value() ||
      std::all_of(shape->begin(), shape->end(), [](int64_t d) { return d == 1; })) {
    return absl::OkStatus();
  }
  return c.Error(absl::StrCat("input ", i, " has shape ", ToString(*shape), ", want one element"));
}

absl::StatusOr<int64_t> NormalizeAxis(const InferContext& c, int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank) {
    return c.Error(absl::StrCat("axis ", axis, " is outside of rank ", rank));
  }
  return axis < 0 ? axis + rank : axis;
}

absl::StatusOr<Shape> NormalizeAxes(const InferContext& c, absl::Span<const int64_t> axes,
                                    int64_t rank) {
  Shape out;
  for (const int64_t a : axes) {
    HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, a, rank));
    out.push_back(axis);
  }
  std::sort(out.begin(), out.end());
  if (const auto twice = std::adjacent_find(out.begin(), out.end()); twice != out.end()) {
    return c.Error(absl::StrCat("axis ", *twice, " is named twice"));
  }
  return out;
}

absl::StatusOr<Dim> Scaled(const InferContext& c, const Dim& a, int64_t factor) {
  if (factor == 1) return a;
  if (!a.known()) return Dim();
  int64_t out;
  if (factor < 0 || __builtin_mul_overflow(a.value, factor, &out)) {
    return c.Error(absl::StrCat("size ", a.value, " times ", factor, " is no size"));
  }
  return Dim(out);
}

absl::StatusOr<Dim> Plus(const InferContext& c, const Dim& a, const Dim& b) {
  if (a.known() && a.value == 0) return b;
  if (b.known() && b.value == 0) return a;
  if (!a.known() || !b.known()) return Dim();
  int64_t out;
  if (__builtin_add_overflow(a.value, b.value, &out)) {
    return c.Error(absl::StrCat("size ", a.value, " plus ", b.value, " is no size"));
  }
  return Dim(out);
}

absl::StatusOr<Dim> Product(const InferContext& c, absl::Span<const Dim> dims) {
  Dim out = 1;
  for (const Dim& d : dims) {
    if (d.known()) {
      HT_ASSIGN_OR_RETURN(out, Scaled(c, out, d.value));
    } else if (out.known() && out.value == 1) {
      out = d;
    } else {
      out = Dim();
    }
  }
  return out;
}

absl::StatusOr<Dim> Unify(const InferContext& c, const Dim& a, const Dim& b) {
  if (a.known() && b.known() && a.value != b.value) {
    return c.Error(absl::StrCat("sizes ", a.value, " and ", b.value, " differ, want the same"));
  }
  if (a.known()) return a;
  if (b.known()) return b;
  return a.symbol.empty() ? b : a;
}

absl::StatusOr<SymbolicShape> Broadcast(const InferContext& c, const SymbolicShape& a,
                                        const SymbolicShape& b) {
  if (!a.has_value() || !b.has_value()) return SymbolicShape();
  const size_t rank = std::max(a->size(), b->size());
  Dims out(rank);
  for (size_t i = 0; i < rank; ++i) {
    const size_t skip_a = rank - a->size(), skip_b = rank - b->size();
    const Dim da = i < skip_a ? Dim(1) : (*a)[i - skip_a];
    const Dim db = i < skip_b ? Dim(1) : (*b)[i - skip_b];
    if (da.value == 1) {
      out[i] = db;
    } else if (db.value == 1 || da == db) {
      out[i] = da;
    } else if (da.known() && db.known()) {
      return c.Error(absl::StrCat("shapes ", ToString(a), " and ", ToString(b),
                                  " do not broadcast: ", da.value, " against ", db.value));
    } else if (da.known() || db.known()) {
      out[i] = da.known() ? da : db;  // the unknown one is 1 or equal
    }
  }
  return SymbolicShape(std::move(out));
}

absl::Status CheckBroadcastsTo(const InferContext& c, const SymbolicShape& from,
                               const SymbolicShape& to) {
  if (!from.has_value() || !to.has_value()) return absl::OkStatus();
  const size_t skip = to->size() - std::min(to->size(), from->size());
  bool fits = from->size() <= to->size();
  for (size_t i = 0; fits && i < from->size(); ++i) {
    const Dim& f = (*from)[i];
    const Dim& t = (*to)[i + skip];
    fits = !f.known() || f.value == 1 || !t.known() || f.value == t.value;
  }
  if (fits) return absl::OkStatus();
  return c.Error(absl::StrCat("shape ", ToString(from), " does not broadcast to ", ToString(to)));
}

absl::StatusOr<IntsArgument> IntsInput(const InferContext& c, int i) {
  if (!c.has_input(i)) return IntsArgument{};
  HT_RETURN_IF_ERROR(CheckType(c, i, kIntTypes));
  HT_RETURN_IF_ERROR(CheckRank(c, i, 0, 1));
  IntsArgument out{.state = IntsArgument::State::kUnknown};
  if (const Tensor* t = c.constant(i); t != nullptr) {
    HT_ASSIGN_OR_RETURN(out.values, ToInt64s(*t));
    out.state = IntsArgument::State::kKnown;
    out.size = static_cast<int64_t>(out.values.size());
  } else if (const std::optional<Elements> elements = c.elements(i); elements.has_value()) {
    out.size = static_cast<int64_t>(elements->size());
  }
  return out;
}

absl::StatusOr<IntsArgument> IntsInput(const EvalContext& c, int i) {
  if (!c.has_input(i)) return IntsArgument{};
  IntsArgument out{.state = IntsArgument::State::kKnown};
  HT_ASSIGN_OR_RETURN(out.values, ToInt64s(c.input(i)));
  out.size = static_cast<int64_t>(out.values.size());
  return out;
}

IntsArgument IntsAttribute(const Attributes& attributes, absl::string_view name) {
  const auto* values = attributes.Find<std::vector<int64_t>>(name);
  if (values == nullptr) return {};
  return {.state = IntsArgument::State::kKnown,
          .values = Shape(values->begin(), values->end()),
          .size = static_cast<int64_t>(values->size())};
}

absl::StatusOr<Dims> DimsFromElements(const InferContext& c, const Elements& elements) {
  Dims out;
  out.reserve(elements.size());
  for (const Element& e : elements) {
    if (e.number.has_value() && *e.number < 0) {
      return c.Error(absl::StrCat("got size ", *e.number, " in a shape, want 0 or more"));
    }
    out.push_back(e.number.has_value() ? Dim(*e.number) : Dim(e.symbol));
  }
  return out;
}

Elements ElementsFromDims(absl::Span<const Dim> dims) {
  Elements out;
  out.reserve(dims.size());
  for (const Dim& d : dims) {
    out.push_back(d.known() ? Element{.number = d.value} : Element{.symbol = d.symbol});
  }
  return out;
}

absl::Status InferLikeInput(InferContext& c) {
  c.set_output(0, c.input(0).type, c.input(0).shape);
  return absl::OkStatus();
}

}  // namespace halftone
