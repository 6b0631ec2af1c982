#include "tests/unit/store/fake_engine.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

// What stands behind the `const Plan*`s of this engine; only it looks inside.
struct alignas(16) FakePlan {
  int64_t bytes = 0;
};

Graph MakeGraph(const std::string& bytes) {
  Graph graph(bytes);
  Value* x = graph.AddInput("x", {DataType::kF32, Dims{Dim("batch"), Dim(2)}});
  Node* node = graph.AddNode({.op = "Identity", .name = "id", .inputs = {x}, .outputs = {"y"}});
  node->output(0)->set_type(x->type());
  graph.AddOutput(node->output(0));
  return graph;
}

absl::StatusOr<ExportedModel> Export(const Graph& graph,
                                     const std::function<absl::Status(absl::string_view)>& write) {
  int64_t bytes = 0;
  if (!absl::SimpleAtoi(graph.name(), &bytes)) return absl::InternalError(graph.name());
  HT_RETURN_IF_ERROR(write(std::string(static_cast<size_t>(bytes), 'w')));
  return ExportedModel{.onnx = graph.name(), .data_bytes = bytes};
}

}  // namespace

void Gate::Close() {
  absl::MutexLock lock(&mu_);
  open_ = false;
}

void Gate::Open() {
  absl::MutexLock lock(&mu_);
  open_ = true;
}

bool Gate::Pass(const std::function<bool()>& give_up) {
  absl::MutexLock lock(&mu_);
  ++waiting_;
  bool passed = true;
  while (!mu_.AwaitWithTimeout(absl::Condition(&open_), absl::Milliseconds(1))) {
    if (give_up && give_up()) {
      passed = false;
      break;
    }
  }
  --waiting_;
  return passed;
}

void Gate::AwaitSomebody() {
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(+[](int* waiting) { return *waiting > 0; }, &waiting_));
}

void FakeEngine::FailBuilds(absl::Status error) {
  absl::MutexLock lock(&mu_);
  build_error_ = std::move(error);
}

std::vector<std::thread::id> FakeEngine::destructions() const {
  absl::MutexLock lock(&mu_);
  return destructions_;
}

std::vector<std::string> FakeEngine::built_specs() const {
  absl::MutexLock lock(&mu_);
  return built_specs_;
}

std::vector<std::string> FakeEngine::sample_digests() const {
  absl::MutexLock lock(&mu_);
  return sample_digests_;
}

absl::StatusOr<Graph> FakeEngine::Open(const std::string& path) const {
  HT_ASSIGN_OR_RETURN(const std::string text, ReadFile(files_, path, 1000));
  if (absl::StartsWith(text, "bad")) return absl::InvalidArgumentError("Conv 'c': bad model");
  if (absl::StartsWith(text, "unknown")) return absl::UnimplementedError("operator Foo 'f'");
  return MakeGraph(text.substr(0, text.find(' ')));
}

absl::StatusOr<BuiltVariant> FakeEngine::Build(const Graph& graph, const QuantSpec& spec,
                                               const BuildOptions& options) {
  ++builds;
  absl::Status error;
  {
    absl::MutexLock lock(&mu_);
    built_specs_.push_back(spec.ToString());
    sample_digests_.push_back(options.samples == nullptr ? "" : options.samples->digest);
    error = build_error_;
  }
  if (on_build) on_build(options);
  if (reports_progress) options.progress({.stage = "calibrate", .fraction = 0.25});
  if (!build_gate.Pass(options.cancelled)) return absl::CancelledError("build cancelled");
  if (reports_progress) options.progress({.stage = "compare", .fraction = 0.75});
  HT_RETURN_IF_ERROR(error);
  int64_t bytes = 0;
  if (!absl::SimpleAtoi(graph.name(), &bytes)) return absl::InternalError(graph.name());
  BuiltVariant built{.graph = MakeGraph(absl::StrCat(bytes / 2)), .spec = spec};
  built.report.spec = spec.ToString();
  built.report.resident_bytes = bytes / 2;
  return built;
}

absl::StatusOr<std::shared_ptr<const Plan>> FakeEngine::Load(const std::string& path) {
  ++loads;
  load_gate.Pass();
  HT_ASSIGN_OR_RETURN(const std::string text, ReadFile(files_, path, 1000));
  auto* plan = new FakePlan;
  if (!absl::SimpleAtoi(text, &plan->bytes)) return absl::InternalError(text);
  std::shared_ptr<FakePlan> owner(plan, [this](FakePlan* p) {
    absl::MutexLock lock(&mu_);
    destructions_.push_back(std::this_thread::get_id());
    delete p;
  });
  return std::shared_ptr<const Plan>(owner, reinterpret_cast<const Plan*>(plan));
}

StoreEngine FakeEngine::Table() {
  StoreEngine table;
  table.import_model = [this](const std::string& path) {
    ++imports;
    return Open(path);
  };
  table.open_model = [this](const std::string& path) { return Open(path); };
  table.export_model = Export;
  table.build = [this](const Graph& graph, const QuantSpec& spec, const BuildOptions& options) {
    return Build(graph, spec, options);
  };
  table.predict = [](const Graph&, const QuantSpec& spec, bool) {
    return PlanReport{.spec = spec.ToString()};
  };
  table.load = [this](const std::string& path, const QuantSpec& spec) {
    loaded_compute = spec.compute;
    return Load(path);
  };
  table.memory = [this](const Plan& plan) {
    return PlanMemory{.weight_bytes = reinterpret_cast<const FakePlan&>(plan).bytes,
                      .packed_bytes = growth};
  };
  table.isa_class = "vnni";
  return table;
}

}  // namespace halftone
