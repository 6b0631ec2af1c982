#include "core/exec/lower/codes.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/cleanup/cleanup.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/unpack.h"

namespace halftone {
namespace {

// Integers that DequantizeLinear reads, as i32 of the same shape.
absl::StatusOr<Tensor> Integers(const Graph& graph, const Tensor& t) {
  if (BitWidth(t.type()) >= 8) return Convert(t, DataType::kI32);
  Graph cast("cast");
  cast.opsets()[""] = std::max(graph.opset(), 21);
  const Node* node =
      cast.AddNode({.op = "Cast",
                    .inputs = {cast.AddConstant("x", t)},
                    .outputs = {"y"},
                    .attributes = {{"to", int64_t{Info(DataType::kI32).onnx_code}}}});
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> out, EvaluateNode(cast, *node, {&t}));
  return std::move(out[0]);
}

// Which element of the scale belongs to each weight, as i32 like the weights.
absl::StatusOr<Tensor> ScaleIndices(const Node& node, const Tensor& q) {
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(DataType::kI32, q.shape()));
  const auto to = out.mutable_data<int32_t>();
  const int64_t block = node.attributes().Int("block_size", 0);
  if (block == 0 && node.input(1)->constant().num_elements() == 1) {
    std::fill(to.begin(), to.end(), 0);
    return out;
  }
  int64_t axis = node.attributes().Int("axis", 1);
  if (axis < 0) axis += q.rank();
  int64_t inner = 1;
  for (int i = q.rank() - 1; i > axis; --i) inner *= q.dim(i);
  const int64_t size = q.dim(static_cast<int>(axis));
  const int64_t blocks = block == 0 ? 0 : (size + block - 1) / block;
  for (size_t i = 0; i < to.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i), j = at % inner, a = at / inner % size;
    const int64_t o = at / inner / size;
    to[i] = static_cast<int32_t>(block == 0 ? a : (o * blocks + a / block) * inner + j);
  }
  return out;
}

// What the nodes between DequantizeLinear and `value` make of a tensor that lies like its input.
absl::StatusOr<Tensor> Moved(const Graph& graph, const Value* value, const Tensor& t) {
  const Node* node = value->producer();
  if (node->op() == "DequantizeLinear") return t;
  HT_ASSIGN_OR_RETURN(const Tensor before, Moved(graph, node->input(0), t));
  std::vector<const Tensor*> inputs = {&before};
  for (size_t i = 1; i < node->inputs().size(); ++i) {
    inputs.push_back(&node->input(static_cast<int>(i))->constant());
  }
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> out, EvaluateNode(graph, *node, inputs));
  return std::move(out[0]);
}

const Node& DequantizerOf(const Value* value) {
  const Node* node = value->producer();
  while (node->op() != "DequantizeLinear") node = node->input(0)->producer();
  return *node;
}

// Columns after which some row changes its scale: the greatest common divisor of those places.
int64_t GroupOf(absl::Span<const int32_t> scale, const MatrixView& view) {
  const int64_t cols = static_cast<int64_t>(view.columns.size());
  int64_t group = cols;
  for (const int64_t row : view.rows) {
    for (int64_t c = 1; c < cols; ++c) {
      if (scale[row + view.columns[c]] != scale[row + view.columns[c - 1]]) {
        group = std::gcd(group, c);
      }
    }
  }
  return group;
}

// Whether all rows have the scales of the first one.
bool BelongsToColumns(absl::Span<const int32_t> scale, const MatrixView& view) {
  for (const int64_t row : view.rows) {
    for (const int64_t c : view.columns) {
      if (scale[row + c] != scale[view.rows[0] + c]) return false;
    }
  }
  return view.rows.size() > 1;
}

}  // namespace

MatrixView DenseView(int64_t k, int64_t n, bool transposed) {
  MatrixView view;
  for (int64_t r = 0; r < n; ++r) view.rows.push_back(r * (transposed ? k : 1));
  for (int64_t c = 0; c < k; ++c) view.columns.push_back(c * (transposed ? 1 : n));
  return view;
}

MatrixView ConvView(const Shape& weights, int64_t groups, bool transposed) {
  const int64_t taps = ElementCount(absl::MakeConstSpan(weights).subspan(2));
  const int64_t stride0 = weights[1] * taps;
  MatrixView view;
  if (!transposed) {
    for (int64_t r = 0; r < weights[0]; ++r) view.rows.push_back(r * stride0);
    for (int64_t c = 0; c < stride0; ++c) view.columns.push_back(c);
    return view;
  }
  const int64_t in = weights[0] / groups;
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t o = 0; o < weights[1]; ++o) view.rows.push_back(g * in * stride0 + o * taps);
  }
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t t = 0; t < taps; ++t) view.columns.push_back(i * stride0 + t);
  }
  return view;
}

absl::StatusOr<CodeMatrix> ReadCodes(const Graph& graph, const WeightMatch& weights,
                                     const MatrixView& view) {
  const Node& dequantize = DequantizerOf(weights.widened);
  const Node* unpack = dequantize.input(0)->producer();
  Tensor stored = weights.constant->constant();
  if (unpack != nullptr) {
    HT_ASSIGN_OR_RETURN(std::vector<Tensor> unpacked, EvaluateNode(graph, *unpack, {&stored}));
    stored = std::move(unpacked[0]);
  }
  CodeMatrix m{.rows = static_cast<int64_t>(view.rows.size()),
               .cols = static_cast<int64_t>(view.columns.size()),
               .bits = weights.bits};
  const DataType type = stored.type();
  // The smallest integer has code 0; a binary weight is 2 * (code - 0.5).
  const bool is_signed = unpack != nullptr || Info(type).is_signed;
  const int32_t lowest = is_signed && m.bits > 1 ? -(1 << (m.bits - 1)) : 0;
  HT_ASSIGN_OR_RETURN(const Tensor q, Integers(graph, stored));
  HT_ASSIGN_OR_RETURN(const Tensor indices, ScaleIndices(dequantize, q));
  HT_ASSIGN_OR_RETURN(const Tensor moved, Moved(graph, weights.widened, q));
  HT_ASSIGN_OR_RETURN(const Tensor moved_indices, Moved(graph, weights.widened, indices));
  const auto codes = moved.data<int32_t>();
  const auto index = moved_indices.data<int32_t>();
  m.codes.reserve(static_cast<size_t>(m.rows * m.cols));
  for (const int64_t r : view.rows) {
    for (const int64_t c : view.columns) {
      const int32_t code = m.bits == 1 ? codes[r + c] > 0 : codes[r + c] - lowest;
      m.codes.push_back(static_cast<uint16_t>(code));
    }
  }
  const auto scale = dequantize.input(1)->constant().data<float>();
  const float factor = m.bits == 1 ? 2.0f : 1.0f;
  Tensor zero;
  if (dequantize.input(2) != nullptr) {
    HT_ASSIGN_OR_RETURN(zero, Integers(graph, dequantize.input(2)->constant()));
  }
  const auto zero_of = [&](int32_t i) {
    if (m.bits == 1) return 0.5f;
    return static_cast<float>((zero.num_elements() == 0 ? 0 : zero.data<int32_t>()[i]) - lowest);
  };
  // Who packs the weights has no more use for the file's pages.
  const absl::Cleanup drop = [&] {
    for (const Tensor* t : {&weights.constant->constant(), &dequantize.input(1)->constant()}) {
      t->DropPages();
    }
    if (dequantize.input(2) != nullptr) dequantize.input(2)->constant().DropPages();
  };
  m.group = GroupOf(index, view);
  if (m.group < m.cols && BelongsToColumns(index, view)) {
    m.group = m.cols;
    m.scales.assign(static_cast<size_t>(m.rows), 1.0f);
    m.zeros = {0.0f};
    for (const int64_t c : view.columns) {
      const int32_t i = index[view.rows[0] + c];
      m.column_scales.push_back(scale[i] * factor);
      m.column_zeros.push_back(zero_of(i));
    }
    return m;
  }
  for (const int64_t r : view.rows) {
    for (int64_t c = 0; c < m.cols; c += m.group) {
      const int32_t i = index[r + view.columns[c]];
      m.scales.push_back(scale[i] * factor);
      m.zeros.push_back(zero_of(i));
    }
  }
  const auto differs = [&](float z) { return z != m.zeros[0]; };
  if (std::none_of(m.zeros.begin(), m.zeros.end(), differs)) m.zeros.resize(1);
  return m;
}

std::optional<WeightLayout> ReadLayout(const dnnl::memory::desc& desc, bool grouped) {
  WeightLayout layout;
  const auto dims = desc.get_dims(), padded = desc.get_padded_dims(), strides = desc.get_strides();
  const auto blocks = desc.get_inner_blks(), block_dims = desc.get_inner_idxs();
  if (desc.get_format_kind() != dnnl::memory::format_kind::blocked) return std::nullopt;
  const int rank = static_cast<int>(dims.size());
  layout.sizes.assign(dims.begin(), dims.end());
  std::vector<int64_t> block(static_cast<size_t>(rank), 1);  // elements of one dim inside of blocks
  for (size_t i = 0; i < blocks.size(); ++i) block[block_dims[i]] *= blocks[i];
  std::vector<int> order(static_cast<size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return strides[a] > strides[b]; });
  for (const int d : order) layout.digits.push_back({padded[d] / block[d], d, block[d]});
  std::vector<int64_t> rest = block;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const int d = static_cast<int>(block_dims[i]);
    rest[d] /= blocks[i];
    layout.digits.push_back({blocks[i], d, rest[d]});
  }
  // Digits of one position say nothing; without them the last one is what really runs.
  std::erase_if(layout.digits, [](const WeightLayout::Digit& d) { return d.count == 1; });
  if (layout.digits.empty()) layout.digits.push_back({1, 0, 1});
  if (layout.digits.back().step != 1) return std::nullopt;
  // Outer strides must leave no gaps.
  int64_t stride = 1;
  for (const int64_t b : blocks) stride *= b;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    const int64_t count = padded[*d] / block[*d];
    if (count > 1 && strides[*d] != stride) return std::nullopt;
    stride *= count;
  }
  if (layout.elements() * 4 != static_cast<int64_t>(desc.get_size())) return std::nullopt;
  const int o = grouped ? 1 : 0;
  layout.row_steps.assign(static_cast<size_t>(rank), 0);
  layout.column_steps.assign(static_cast<size_t>(rank), 0);
  if (grouped) layout.row_steps[0] = dims[1];
  layout.row_steps[o] = 1;
  int64_t step = 1;
  for (int d = rank - 1; d > o; --d) {
    layout.column_steps[d] = step;
    step *= dims[d];
  }
  return layout;
}

}  // namespace halftone
