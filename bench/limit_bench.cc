// The limit of a model: what its convolutions and matrix products take when nothing is around them.
//
//   limit_bench model.onnx --spec int8 --threads 2 --inputs b1=1x3x224x224:x.bin
//   limit_bench … --serve        driven through stdin, like halftone_bench; a `run` takes one
//   sample
//
// Every distinct shape is one bare oneDNN primitive: in the formats that it likes best (or channels
// last, whichever is faster), without bias, activation or residual, its operands in the cache. The
// limit is the sum of their times, each as often as the model has it. Nothing else that a model
// does is in it, so a runtime reaches it only if everything else is free.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <dnnl.hpp>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "bench/protocol.h"
#include "core/base/status_macros.h"
#include "core/exec/dnnl_util.h"
#include "core/exec/lower/spatial.h"
#include "core/exec/plan.h"
#include "core/exec/team.h"
#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "core/passes/pass.h"

namespace halftone {
namespace {

using dnnl::memory;
using nlohmann::json;

struct Flags {
  std::string model;
  std::string spec = "fp32";
  int threads = 1;
  int runs = 20;
  bool serve = false;
  std::vector<std::string> inputs;
};

// Element types of source, weights and destination.
struct Types {
  DataType source, weights, destination;
};
struct SpecTypes {
  absl::string_view spec;
  std::vector<Types> types;  // each product takes the fastest of them
};
const std::vector<SpecTypes>& AllSpecTypes() {
  static const auto* specs =
      new std::vector<SpecTypes>{{"fp32", {{DataType::kF32, DataType::kF32, DataType::kF32}}},
                                 {"bf16", {{DataType::kBF16, DataType::kBF16, DataType::kBF16}}},
                                 // Depthwise convolutions of oneDNN are often faster in f32.
                                 {"int8",
                                  {{DataType::kU8, DataType::kI8, DataType::kU8},
                                   {DataType::kF32, DataType::kF32, DataType::kF32}}}};
  return *specs;
}

// --- what a model multiplies ---------------------------------------------------------------------

enum class ProductKind : uint8_t { kMatMul, kConv, kConvTranspose };

struct Product {
  ProductKind kind = ProductKind::kMatMul;
  // Of a convolution as in ONNX; of a matrix product with equal ranks.
  Shape source, weights, result;
  int64_t groups = 1;
  Window window;

  std::string Name() const {
    constexpr std::array kNames = {"matmul", "conv", "deconv"};
    const auto join = [](absl::Span<const int64_t> v) { return absl::StrJoin(v, "x"); };
    std::string name = absl::StrCat(kNames[static_cast<size_t>(kind)], " ", join(source), " · ",
                                    join(weights), " → ", join(result));
    if (kind == ProductKind::kMatMul) return name;
    return absl::StrCat(name, " g", groups, " s", join(window.strides), " p",
                        join(window.pads_begin), " d", join(window.dilations));
  }
  // Multiply-accumulates.
  double Work() const {
    if (kind == ProductKind::kMatMul) {
      return static_cast<double>(ElementCount(result)) * static_cast<double>(source.back());
    }
    const Shape& positions = kind == ProductKind::kConv ? result : source;
    return static_cast<double>(ElementCount(positions)) / static_cast<double>(positions[1]) *
           static_cast<double>(ElementCount(weights));
  }
};

std::optional<Shape> ShapeOf(const Value* v) {
  if (v == nullptr) return std::nullopt;
  std::optional<Shape> shape = Concrete(v->type().shape);
  if (shape && ElementCount(*shape) == 0) return std::nullopt;
  return shape;
}

std::optional<Product> ReadConv(const Node& node, bool transposed) {
  const auto source = ShapeOf(node.input(0)), weights = ShapeOf(node.input(1)),
             result = ShapeOf(node.output(0));
  if (!source || !weights || !result || weights->size() < 3) return std::nullopt;
  const auto window =
      ReadWindow(node, *source, *result, absl::MakeConstSpan(*weights).subspan(2), transposed);
  if (!window) return std::nullopt;
  return Product{.kind = transposed ? ProductKind::kConvTranspose : ProductKind::kConv,
                 .source = *source,
                 .weights = *weights,
                 .result = *result,
                 .groups = node.attributes().Int("group", 1),
                 .window = *window};
}

std::optional<Product> ReadMatMul(const Node& node) {
  auto a = ShapeOf(node.input(0)), b = ShapeOf(node.input(1)), y = ShapeOf(node.output(0));
  if (!a || !b || !y || a->empty() || b->empty()) return std::nullopt;
  if (node.op() == "Gemm") {
    if (node.attributes().Int("transA", 0) != 0) std::swap((*a)[0], (*a)[1]);
    if (node.attributes().Int("transB", 0) != 0) std::swap((*b)[0], (*b)[1]);
  }
  if (a->size() == 1) a->insert(a->begin(), 1);
  if (b->size() == 1) b->push_back(1);
  Product p{.kind = ProductKind::kMatMul};
  if (b->size() == 2) {  // rows of all matrices of a batch are rows of one
    const int64_t k = a->back(), rows = ElementCount(*a) / k;
    p.source = {rows, k};
    p.weights = *b;
    p.result = {rows, b->back()};
    return p;
  }
  const size_t rank = std::max(a->size(), b->size());
  a->insert(a->begin(), rank - a->size(), 1);
  b->insert(b->begin(), rank - b->size(), 1);
  p.result.resize(rank);
  for (size_t i = 0; i + 2 < rank; ++i) p.result[i] = std::max((*a)[i], (*b)[i]);
  p.result[rank - 2] = (*a)[rank - 2];
  p.result[rank - 1] = b->back();
  p.source = *std::move(a);
  p.weights = *std::move(b);
  return p;
}

// Products, each with how often it is there; and how many heavy nodes are none that we can time.
struct Inventory {
  struct Entry {
    Product product;
    int count = 0;
  };
  std::vector<Entry> entries;
  int skipped = 0;
};

Inventory Collect(const Graph& graph) {
  Inventory inventory;
  absl::flat_hash_map<std::string, size_t> index;
  for (const Node* node : graph.nodes()) {
    const std::string& op = node->op();
    std::optional<Product> product;
    if (op == "Conv" || op == "ConvTranspose") {
      product = ReadConv(*node, op == "ConvTranspose");
    } else if (op == "MatMul" || op == "Gemm") {
      product = ReadMatMul(*node);
    } else {
      const bool heavy = op == "LSTM" || op == "GRU" || op == "RNN" || op == "Einsum";
      inventory.skipped += heavy || HasSubgraph(*node) ? 1 : 0;
      continue;
    }
    if (!product) {
      ++inventory.skipped;
      continue;
    }
    const auto [at, inserted] = index.try_emplace(product->Name(), inventory.entries.size());
    if (inserted) inventory.entries.push_back({*std::move(product)});
    ++inventory.entries[at->second].count;
  }
  return inventory;
}

// --- primitives ----------------------------------------------------------------------------------

// One way to compute a product, with memory of its own.
struct Timed {
  dnnl::primitive primitive;
  std::unordered_map<int, memory> args;
  std::string implementation;
};

template <typename PrimitiveDesc>
Timed Bind(const PrimitiveDesc& pd, dnnl::primitive primitive) {
  Timed timed{std::move(primitive), {}, pd.impl_info_str()};
  for (const auto& [index, desc] :
       {std::pair{DNNL_ARG_SRC, pd.src_desc()}, std::pair{DNNL_ARG_WEIGHTS, pd.weights_desc()},
        std::pair{DNNL_ARG_DST, pd.dst_desc()}}) {
    memory m(desc, CpuEngine());
    std::fill_n(static_cast<char*>(m.get_data_handle()), desc.get_size(), 0);
    timed.args[index] = std::move(m);
  }
  return timed;
}

Shape WeightDims(const Product& p) {
  Shape dims;
  const bool transposed = p.kind == ProductKind::kConvTranspose;
  const int64_t outer = p.weights[0] / p.groups, inner = p.weights[1];
  if (p.groups > 1) dims.push_back(p.groups);
  dims.insert(dims.end(), {transposed ? inner : outer, transposed ? outer : inner});
  dims.insert(dims.end(), p.weights.begin() + 2, p.weights.end());
  return dims;
}

memory::desc Any(absl::Span<const int64_t> dims, DataType type) {
  return memory::desc(DnnlDims(dims), DnnlType(type), memory::format_tag::any);
}

template <typename Primitive>
Timed MakeConv(const Product& p, const Types& t, dnnl::algorithm algorithm, bool channels_last) {
  const auto source =
      channels_last ? ChannelsLastDesc(p.source, t.source) : Any(p.source, t.source);
  const auto result =
      channels_last ? ChannelsLastDesc(p.result, t.destination) : Any(p.result, t.destination);
  const Window& w = p.window;
  const typename Primitive::primitive_desc pd(
      CpuEngine(), dnnl::prop_kind::forward_inference, algorithm, source,
      Any(WeightDims(p), t.weights), result, w.strides, w.dilations, w.pads_begin, w.pads_end);
  return Bind(pd, Primitive(pd));
}

Timed MakeMatMul(const Product& p, const Types& t, bool rows) {
  const auto source = rows ? PlainDesc(p.source, t.source) : Any(p.source, t.source);
  const auto result = rows ? PlainDesc(p.result, t.destination) : Any(p.result, t.destination);
  const dnnl::matmul::primitive_desc pd(CpuEngine(), source, Any(p.weights, t.weights), result);
  return Bind(pd, dnnl::matmul(pd));
}

Timed Make(const Product& p, const Types& types, bool plain_or_last) {
  switch (p.kind) {
    case ProductKind::kConv:
      return MakeConv<dnnl::convolution_forward>(p, types, dnnl::algorithm::convolution_direct,
                                                 plain_or_last);
    case ProductKind::kConvTranspose:
      return MakeConv<dnnl::deconvolution_forward>(p, types, dnnl::algorithm::deconvolution_direct,
                                                   plain_or_last);
    case ProductKind::kMatMul:
      break;
  }
  return MakeMatMul(p, types, plain_or_last);
}

double Seconds(const Timed& timed, dnnl::stream& stream) {
  const int64_t start = absl::GetCurrentTimeNanos();
  timed.primitive.execute(stream, timed.args);
  stream.wait();
  return static_cast<double>(absl::GetCurrentTimeNanos() - start) * 1e-9;
}

// One warm execution, then the fastest of three.
double WarmSeconds(const Timed& timed, dnnl::stream& stream) {
  Seconds(timed, stream);
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 3; ++i) best = std::min(best, Seconds(timed, stream));
  return best;
}

// The fastest of all types and formats; nullopt when oneDNN has none of them.
std::optional<Timed> Fastest(const Product& product, const std::vector<Types>& types,
                             dnnl::stream& stream) {
  std::optional<Timed> best;
  double best_seconds = std::numeric_limits<double>::infinity();
  for (const Types& t : types) {
    for (const bool plain_or_last : {false, true}) {
      absl::StatusOr<Timed> timed =
          TryDnnl("limit", [&] { return Make(product, t, plain_or_last); });
      if (!timed.ok() || IsReferenceImpl(timed->implementation)) continue;
      double seconds = std::numeric_limits<double>::infinity();
      for (int i = 0; i < 3; ++i) seconds = std::min(seconds, WarmSeconds(*timed, stream));
      if (seconds < best_seconds) {
        best_seconds = seconds;
        best = *std::move(timed);
      }
    }
  }
  return best;
}

// --- a model's primitives ------------------------------------------------------------------------

struct Limit {
  struct Entry {
    Product product;
    int count;
    Timed timed;
  };
  std::vector<Entry> entries;
  int skipped = 0;

  double Sample(dnnl::stream& stream) const {
    double sum = 0;
    for (const Entry& e : entries) sum += e.count * WarmSeconds(e.timed, stream);
    return sum;
  }
  double Work() const {
    double sum = 0;
    for (const Entry& e : entries) sum += e.count * e.product.Work();
    return sum;
  }
};

absl::StatusOr<Limit> FindLimit(const Graph& graph, const Request& request,
                                const std::vector<Types>& types, dnnl::stream& stream) {
  Graph concrete = graph.Clone();
  for (size_t i = 0; i < request.size(); ++i) {
    Value* v = concrete.inputs()[i];
    v->set_type({v->type().type, Symbolic(request[i].shape())});
  }
  for (Value* v : concrete.values()) {
    if (v->producer() != nullptr) v->set_type({v->type().type, std::nullopt});
  }
  HT_RETURN_IF_ERROR(InferShapes(concrete));
  concrete.RemoveUnused();
  Inventory inventory = Collect(concrete);
  Limit limit{.skipped = inventory.skipped};
  for (Inventory::Entry& entry : inventory.entries) {
    std::optional<Timed> timed = Fastest(entry.product, types, stream);
    if (timed) {
      limit.entries.push_back({std::move(entry.product), entry.count, *std::move(timed)});
    } else {
      limit.skipped += entry.count;
    }
  }
  return limit;
}

void Print(const Limit& limit, int runs, dnnl::stream& stream) {
  absl::PrintF("%9s %6s %9s %9s  %-28s %s\n", "ms", "times", "ms each", "GOP/s", "implementation",
               "product");
  double total = 0;
  for (const Limit::Entry& e : limit.entries) {
    std::vector<double> seconds;
    for (int i = 0; i < runs; ++i) seconds.push_back(WarmSeconds(e.timed, stream));
    const double typical = Quantile(seconds, 0.5);
    total += e.count * typical;
    absl::PrintF("%9.3f %6d %9.3f %9.0f  %-28s %s\n", 1e3 * e.count * typical, e.count,
                 1e3 * typical, 2e-9 * e.product.Work() / typical, e.timed.implementation,
                 e.product.Name());
  }
  absl::PrintF("%9.3f in all, %.3f GOP; %d nodes not in it\n", 1e3 * total, 2e-9 * limit.Work(),
               limit.skipped);
}

absl::StatusOr<json> Execute(const std::map<std::string, Limit>& limits, const Command& command,
                             dnnl::stream& stream) {
  HT_ASSIGN_OR_RETURN(const int runs, RunsOf(command));
  const auto limit = limits.find(command.request);
  if (limit == limits.end()) {
    return absl::InvalidArgumentError(absl::StrCat("no --inputs named '", command.request, "'"));
  }
  std::vector<double> seconds;
  for (int i = 0; i < runs; ++i) seconds.push_back(limit->second.Sample(stream));
  return json{{"seconds", seconds},
              {"resident_bytes", ResidentBytes()},
              {"operations", 2 * limit->second.Work()},
              {"products", limit->second.entries.size()},
              {"skipped", limit->second.skipped}};
}

absl::Status Main(const Flags& flags) {
  const auto& specs = AllSpecTypes();
  const auto spec = std::find_if(specs.begin(), specs.end(),
                                 [&](const SpecTypes& s) { return s.spec == flags.spec; });
  if (spec == specs.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--spec ", flags.spec, ", want fp32, bf16 or int8"));
  }
  SetIntraOpThreads(flags.threads);
  Team team(DivideCpus(UsableCpus(), flags.threads));
  team.Use(flags.threads);
  const int64_t start = absl::GetCurrentTimeNanos();
  HT_ASSIGN_OR_RETURN(Graph graph, ImportOnnxFile(flags.model));
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  HT_ASSIGN_OR_RETURN(const Signature signature, SignatureOf(graph));
  HT_ASSIGN_OR_RETURN(const auto requests, ReadRequests(signature, flags.inputs));
  dnnl::stream stream(CpuEngine());
  std::map<std::string, Limit> limits;
  for (const auto& [name, request] : requests) {
    HT_ASSIGN_OR_RETURN(limits[name], FindLimit(graph, request, spec->types, stream));
  }
  if (!flags.serve) {
    for (const auto& [name, limit] : limits) {
      absl::PrintF("%s, %s\n", name, flags.spec);
      Print(limit, flags.runs, stream);
    }
    return absl::OkStatus();
  }
  const double load_seconds = static_cast<double>(absl::GetCurrentTimeNanos() - start) * 1e-9;
  const json facts = {{"engine", absl::StrCat("oneDNN ", dnnl_version()->major, ".",
                                              dnnl_version()->minor, ".", dnnl_version()->patch)},
                      {"model", flags.model},
                      {"spec", flags.spec},
                      {"threads", flags.threads},
                      {"load_seconds", load_seconds},
                      {"resident_bytes", ResidentBytes()}};
  return ServeCommands(facts, [&](const Command& command) {
    team.Use(flags.threads);
    return Execute(limits, command, stream);
  });
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  halftone::Flags flags;
  CLI::App app("Sums the times of a model's bare convolutions and matrix products.");
  app.add_option("model", flags.model, "ONNX file")->required();
  app.add_option("--spec", flags.spec, "fp32, bf16 or int8");
  app.add_option("--threads", flags.threads)->check(CLI::PositiveNumber);
  app.add_option("--runs", flags.runs, "samples of each product, without --serve")
      ->check(CLI::PositiveNumber);
  app.add_flag("--serve", flags.serve, "take commands from stdin");
  app.add_option("--inputs", flags.inputs, "NAME=SHAPE:PATH[,SHAPE:PATH…], raw bytes")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = halftone::Main(flags);
  if (status.ok()) return 0;
  std::cerr << "limit_bench: " << status << "\n";
  return 1;
}
