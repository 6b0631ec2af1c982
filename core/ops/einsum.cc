// Einsum: sums of products over named axes.
#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// Labels of each operand and of the output, '.' standing for each axis of an ellipsis from the
// outermost on: positive numbers are letters, -1, -2, … are ellipsis axes counted from the last.
using Labels = std::vector<int>;
struct Equation {
  std::vector<Labels> inputs;
  Labels output;
};

// Reads one term; an ellipsis covers what the letters leave of `rank`, or of `ellipsis` axes.
template <typename Context>
absl::StatusOr<Labels> ReadTerm(const Context& c, absl::string_view term, int rank, int ellipsis) {
  Labels out;
  int letters = 0;
  for (const char ch : term) letters += absl::ascii_isalpha(static_cast<unsigned char>(ch)) ? 1 : 0;
  const size_t dots = term.find("...");
  if (rank >= 0) ellipsis = rank - letters;
  if (ellipsis < 0 || (rank >= 0 && dots == absl::string_view::npos && ellipsis != 0)) {
    return c.Error(absl::StrCat("term '", term, "' does not fit rank ", rank));
  }
  for (size_t i = 0; i < term.size(); ++i) {
    const char ch = term[i];
    if (i == dots) {
      for (int k = ellipsis; k > 0; --k) out.push_back(-k);
      i += 2;
    } else if (absl::ascii_isalpha(static_cast<unsigned char>(ch))) {
      out.push_back(ch);
    } else if (!absl::ascii_isspace(static_cast<unsigned char>(ch))) {
      return c.Error(absl::StrCat("equation has the character '", term.substr(i, 1), "'"));
    }
  }
  return out;
}

template <typename Context>
absl::StatusOr<Equation> ReadEquation(const Context& c, absl::Span<const int> ranks) {
  const std::string text = c.attributes().String("equation", "");
  const std::vector<std::string> sides = absl::StrSplit(text, "->");
  const std::vector<std::string> terms = absl::StrSplit(sides[0], ',');
  if (sides.size() > 2 || terms.size() != ranks.size()) {
    return c.Error(absl::StrCat("equation is '", text, "' for ", ranks.size(), " inputs"));
  }
  Equation out;
  int ellipsis = 0;
  std::map<int, int> count;
  for (size_t i = 0; i < terms.size(); ++i) {
    HT_ASSIGN_OR_RETURN(Labels labels, ReadTerm(c, terms[i], ranks[i], 0));
    for (const int label : labels) {
      ++count[label];
      ellipsis = std::max(ellipsis, -label);
    }
    out.inputs.push_back(std::move(labels));
  }
  if (sides.size() == 2) {
    HT_ASSIGN_OR_RETURN(out.output, ReadTerm(c, sides[1], -1, ellipsis));
  } else {
    // Without an arrow: the ellipsis, then every letter that occurs once, in alphabetical order.
    for (const auto& [label, times] : count) {
      if (label < 0 || times == 1) out.output.push_back(label);
    }
  }
  for (size_t i = 0; i < out.output.size(); ++i) {
    const bool again = std::count(out.output.begin(), out.output.end(), out.output[i]) > 1;
    if (count[out.output[i]] == 0 || again) {
      return c.Error(absl::StrCat("equation '", text, "' has a bad output"));
    }
  }
  return out;
}

absl::Status InferEinsum(InferContext& c) {
  std::vector<int> ranks;
  bool complete = true;
  for (int i = 0; i < c.num_inputs(); ++i) {
    if (!c.has_input(i)) return c.Error(absl::StrCat("input ", i, " is absent"));
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
    complete = complete && c.input(i).shape.has_value();
    if (complete) ranks.push_back(static_cast<int>(c.input(i).shape->size()));
  }
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!complete) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const Equation e, ReadEquation(c, ranks));
  std::map<int, Dim> sizes;
  for (int i = 0; i < c.num_inputs(); ++i) {
    for (size_t a = 0; a < e.inputs[i].size(); ++a) {
      const Dim& d = (*c.input(i).shape)[a];
      const auto [it, is_new] = sizes.try_emplace(e.inputs[i][a], d);
      if (is_new || d.value == 1) continue;
      if (it->second.value == 1) {
        it->second = d;
      } else {
        HT_ASSIGN_OR_RETURN(it->second, Unify(c, it->second, d));
      }
    }
  }
  Dims out;
  for (const int label : e.output) out.push_back(sizes[label]);
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// An operand's strides over the axes `order`; a label that occurs twice walks the diagonal.
Shape StridesOver(const Labels& labels, absl::Span<const int64_t> shape, const Labels& order) {
  const Shape strides = RowMajorStrides(shape);
  Shape out(order.size(), 0);
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t a = 0; a < labels.size(); ++a) {
      if (labels[a] == order[i] && shape[a] != 1) out[i] += strides[a];
    }
  }
  return out;
}

// acc[out] += product of the operands so far, two at a time: `left` and `right` meet in `order`.
template <typename T>
Tensor Contract(const Tensor& left, const Labels& left_labels, const Tensor& right,
                const Labels& right_labels, const Labels& order, absl::Span<const int64_t> sizes,
                const Labels& out_labels, Tensor out) {
  T* to = MutableRaw<T>(out);
  std::fill(to, to + out.num_elements(), T{0});
  using U = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;  // wraps
  ForEachRow(sizes,
             {StridesOver(left_labels, left.shape(), order),
              StridesOver(right_labels, right.shape(), order),
              StridesOver(out_labels, out.shape(), order)},
             [&](int64_t count, const int64_t* o, const int64_t* s) {
               const T* a = Raw<T>(left) + o[0];
               const T* b = Raw<T>(right) + o[1];
               T* y = to + o[2];
               for (int64_t i = 0; i < count; ++i) {
                 y[i * s[2]] =
                     static_cast<T>(static_cast<U>(y[i * s[2]]) +
                                    static_cast<U>(a[i * s[0]]) * static_cast<U>(b[i * s[1]]));
               }
             });
  return out;
}

absl::Status EvalEinsum(EvalContext& c) {
  std::vector<int> ranks;
  for (int i = 0; i < c.num_inputs(); ++i) ranks.push_back(c.input(i).rank());
  HT_ASSIGN_OR_RETURN(const Equation e, ReadEquation(c, ranks));
  std::map<int, int64_t> sizes;
  for (int i = 0; i < c.num_inputs(); ++i) {
    for (size_t a = 0; a < e.inputs[i].size(); ++a) {
      int64_t& size = sizes.try_emplace(e.inputs[i][a], 1).first->second;
      if (c.input(i).shape()[a] != 1) size = c.input(i).shape()[a];
    }
  }
  HT_ASSIGN_OR_RETURN(Tensor acc, Convert(Tensor::Of<float>({}, {1.0f}), c.input(0).type()));
  Labels acc_labels;
  for (int i = 0; i < c.num_inputs(); ++i) {
    // What later operands or the output still need stays; the rest is summed now.
    Labels order = acc_labels, kept;
    for (const int label : e.inputs[i]) {
      if (std::find(order.begin(), order.end(), label) == order.end()) order.push_back(label);
    }
    for (const int label : order) {
      bool needed = std::find(e.output.begin(), e.output.end(), label) != e.output.end();
      for (int j = i + 1; j < c.num_inputs(); ++j) {
        needed =
            needed || std::find(e.inputs[j].begin(), e.inputs[j].end(), label) != e.inputs[j].end();
      }
      if (needed) kept.push_back(label);
    }
    if (i + 1 == c.num_inputs()) kept = e.output;
    Shape space, shape;
    for (const int label : order) space.push_back(sizes[label]);
    for (const int label : kept) shape.push_back(sizes[label]);
    HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0, acc.type(), shape));
    HT_RETURN_IF_ERROR(DispatchWide(c, acc.type(), [&](auto tag) {
      acc = Contract<decltype(tag)>(acc, acc_labels, c.input(i), e.inputs[i], order, space, kept,
                                    *out);
    }));
    acc_labels = kept;
  }
  c.set_output(0, std::move(acc));
  return absl::OkStatus();
}

constexpr std::array kRows = {OpDef{.name = "Einsum",
                                    .since_opset = 12,
                                    .inputs = {1, -1},
                                    .infer = InferEinsum,
                                    .eval = WidenedNumbers<EvalEinsum>,
                                    .types = kNumericTypes,
                                    .tolerance = kAccumulate}};

}  // namespace

absl::Span<const OpDef> EinsumOps() { return kRows; }

}  // namespace halftone
