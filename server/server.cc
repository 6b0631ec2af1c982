#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/cpu_budget.h"
#include "core/base/status_macros.h"
#include "core/exec/cpu_features.h"
#include "core/store/model_store.h"
#include "server/http_server.h"
#include "server/inference_engine.h"
#include "server/inference_service.h"
#include "server/live_samples.h"
#include "server/metrics.h"
#include "server/model_service.h"
#include "server/open_inference_service.h"
#include "server/quantization_service.h"
#include "server/report_page.h"
#include "server/scheduler.h"
#include "server/service_env.h"
#include "server/store_metrics.h"
#include "server/task_pool.h"
#include "server/version.h"
#include "server/warm_up.h"
#include "server/wide_trials.h"

namespace halftone {
namespace {

constexpr int64_t kFallbackBudgetBytes = int64_t{2} << 30;

// Health: readiness, so they go NOT_SERVING when the server drains.
constexpr const char* kReadinessNames[] = {
    "", "inference.GRPCInferenceService", "halftone.v1.ModelService",
    "halftone.v1.QuantizationService", "halftone.v1.InferenceService"};
// Health: the process itself. Never changes: a busy or draining server must not be killed for it.
constexpr char kLiveness[] = "liveness";

// Replaces "automatic" by numbers.
ServerConfig Resolved(ServerConfig config, int cores) {
  if (config.workers == 0) config.workers = std::max(1, cores / config.threads_per_worker);
  // More threads than cores would wait for each other.
  if (config.wide_threads == 0) config.wide_threads = config.workers * config.threads_per_worker;
  config.wide_threads = std::min(config.wide_threads, cores);
  if (config.resident_budget_bytes == 0) {
    const int64_t limit = ReadMemoryLimit();
    config.resident_budget_bytes = limit > 0 ? limit / 2 : kFallbackBudgetBytes;
  }
  return config;
}

std::string Address(const std::string& host, int port) {
  // IPv6 addresses need brackets before a port.
  if (absl::StrContains(host, ':') && !absl::StartsWith(host, "[")) {
    return absl::StrCat("[", host, "]:", port);
  }
  return absl::StrCat(host, ":", port);
}

}  // namespace

// Members are destroyed bottom up: gRPC first, the store last.
struct Server::Impl {
  Impl(ServerConfig c, int core_budget)
      : config(std::move(c)),
        cores(core_budget),
        metrics(kVersion, IsaName(DetectCpuFeatures())),
        live_samples(config.max_live_sample_bytes) {}

  absl::Status Open();
  absl::Status Listen();
  // See StoreObserver::warm_up. Then finds out in the background whether it should run wide.
  bool WarmUp(const std::string& id, const std::shared_ptr<const Plan>& plan,
              const std::vector<Tensor>& inputs);
  HttpResponse Scrape();
  void Shutdown(absl::Time deadline);

  const ServerConfig config;
  const int cores;
  Metrics metrics;
  LiveSamples live_samples;
  // Whether observers of the store may use scheduler and trials, which come later and die first.
  absl::Mutex observers_mu;
  bool observed ABSL_GUARDED_BY(observers_mu) = false;
  std::unique_ptr<ModelStore> store;
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<WideTrials> wide_trials;
  std::unique_ptr<InferenceEngine> engine;
  std::optional<TaskPool> quick_pool;
  std::optional<TaskPool> slow_pool;
  std::optional<ServiceEnv> env;
  std::atomic<bool> ready{false};
  std::optional<ModelService> models;
  std::optional<QuantizationService> quantization;
  std::optional<InferenceService> inference;
  std::optional<OpenInferenceService> open_inference;
  std::optional<StoreMetrics> store_metrics;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<grpc::Server> grpc;
  int port = 0;
};

absl::Status Server::Impl::Open() {
  HT_ASSIGN_OR_RETURN(
      store,
      ModelStore::Open(
          {.directory = config.store,
           .resident_budget_bytes = config.resident_budget_bytes,
           .max_upload_bytes = config.max_upload_bytes,
           .disk_budget_bytes = config.disk_budget_bytes,
           .threads_per_plan = config.threads_per_worker,
           .build_threads = config.build_threads,
           .observer = {.cache_event =
                            [this](CacheEvent event, const std::string&, const std::string&) {
                              metrics.CountCacheEvent(event);
                              if (event != CacheEvent::kEvict) return;
                              absl::ReaderMutexLock lock(&observers_mu);
                              if (observed) scheduler->DropUnusedContexts();
                            },
                        .build_done =
                            [this](const std::string& spec, const absl::Status& status,
                                   absl::Duration duration) {
                              metrics.ObserveBuild(spec, status, duration);
                            },
                        .warm_up =
                            [this](const std::string& id, const std::shared_ptr<const Plan>& plan,
                                   const std::vector<Tensor>& inputs) {
                              return WarmUp(id, plan, inputs);
                            }}}));
  scheduler = std::make_unique<Scheduler>(
      SchedulerOptions{.workers = config.workers,
                       .intra_op_threads = config.threads_per_worker,
                       .wide_threads = config.wide_threads,
                       .max_queued = config.max_queued_requests,
                       .max_contexts_per_worker = config.max_contexts_per_worker},
      PlanContexts());
  wide_trials = std::make_unique<WideTrials>(*scheduler);
  {
    absl::MutexLock lock(&observers_mu);
    observed = true;
  }
  metrics.SetWorkers(config.workers, config.threads_per_worker, config.wide_threads, cores);
  engine = std::make_unique<InferenceEngine>(
      InferenceEngineOptions{.max_inflight_bytes = config.max_inflight_bytes}, *store, *scheduler,
      *wide_trials, metrics, live_samples);
  quick_pool.emplace(TaskPoolOptions{.max_threads = 8, .max_queued = 1024});
  slow_pool.emplace(TaskPoolOptions{.max_threads = 32, .max_queued = 64});
  env.emplace(ServiceEnv{config, *store, *scheduler, *engine, live_samples, metrics, *quick_pool,
                         *slow_pool});
  models.emplace(*env);
  quantization.emplace(*env);
  inference.emplace(*env);
  open_inference.emplace(*env, ready);
  store_metrics.emplace(*store, *scheduler, live_samples);
  return absl::OkStatus();
}

bool Server::Impl::WarmUp(const std::string& id, const std::shared_ptr<const Plan>& plan,
                          const std::vector<Tensor>& inputs) {
  absl::ReaderMutexLock lock(&observers_mu);
  if (!observed) return false;
  // Half of the memory is for variants; as much may go to contexts before requests want them.
  const bool ran = WarmUpWorkers(*scheduler, id, plan, inputs,
                                 {.arena_bytes = config.resident_budget_bytes}) > 0;
  wide_trials->Try(id, plan, inputs);
  return ran;
}

absl::Status Server::Impl::Listen() {
  HT_ASSIGN_OR_RETURN(http, HttpServer::Listen(Address(config.metrics_host, config.metrics_port)));
  http->Handle("/metrics", [this](const HttpRequest&) { return Scrape(); });
  http->Handle("/report",
               [this](const HttpRequest& request) { return AnswerReport(*store, request); });

  // Both are process-wide switches of gRPC that only ever go on: reflection is a plugin of every
  // later builder, so a server without it must be built before one with it.
  grpc::EnableDefaultHealthCheckService(true);
  if (config.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  builder.AddListeningPort(Address(config.host, config.port), grpc::InsecureServerCredentials(),
                           &port);
  builder.SetMaxReceiveMessageSize(static_cast<int>(
      std::min<int64_t>(config.max_message_bytes, std::numeric_limits<int>::max())));
  builder.SetMaxSendMessageSize(-1);
  // Two servers must never share a port by accident.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  if (config.max_connection_age > absl::ZeroDuration()) {
    const int64_t age = std::clamp<int64_t>(absl::ToInt64Milliseconds(config.max_connection_age), 1,
                                            std::numeric_limits<int>::max());
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, static_cast<int>(age));
  }
  builder.RegisterService(&*models);
  builder.RegisterService(&*quantization);
  builder.RegisterService(&*inference);
  builder.RegisterService(&*open_inference);
  grpc = builder.BuildAndStart();
  if (grpc == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("gRPC: cannot listen on ", Address(config.host, config.port)));
  }
  for (const char* name : kReadinessNames) {
    grpc->GetHealthCheckService()->SetServingStatus(name, true);
  }
  grpc->GetHealthCheckService()->SetServingStatus(kLiveness, true);
  ready = true;
  return absl::OkStatus();
}

HttpResponse Server::Impl::Scrape() {
  std::vector<prometheus::MetricFamily> families = metrics.registry()->Collect();
  std::vector<prometheus::MetricFamily> more = store_metrics->Collect();
  std::move(more.begin(), more.end(), std::back_inserter(families));
  return {.type = "text/plain; version=0.0.4; charset=utf-8",
          .body = prometheus::TextSerializer().Serialize(families)};
}

void Server::Impl::Shutdown(absl::Time deadline) {
  ready = false;
  if (grpc != nullptr) {
    grpc->Shutdown(absl::ToChronoTime(deadline));
    grpc->Wait();
    grpc.reset();
  }
  http.reset();
  slow_pool.reset();
  quick_pool.reset();
  absl::MutexLock lock(&observers_mu);
  observed = false;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() { impl_->Shutdown(absl::Now()); }

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerConfig config) {
  const int cores = CpuBudget();
  std::unique_ptr<Server> server(
      new Server(std::make_unique<Impl>(Resolved(std::move(config), cores), cores)));
  HT_RETURN_IF_ERROR(server->impl_->Open());
  HT_RETURN_IF_ERROR(server->impl_->Listen());
  return server;
}

int Server::port() const { return impl_->port; }

int Server::metrics_port() const { return impl_->http->port(); }

std::string Server::Summary() const {
  const ServerConfig& c = impl_->config;
  const bool wide = c.wide_threads > c.threads_per_worker;
  return absl::StrCat(
      impl_->cores, " cores: ", c.workers, " workers × ", c.threads_per_worker, " threads",
      wide ? absl::StrCat(", ", c.wide_threads, " for a request that is alone") : "", "; ",
      c.resident_budget_bytes >> 20, " MiB for variants; ", IsaName(DetectCpuFeatures()));
}

void Server::BeginDrain() {
  impl_->ready = false;
  for (const char* name : kReadinessNames) {
    impl_->grpc->GetHealthCheckService()->SetServingStatus(name, false);
  }
}

void Server::Shutdown(absl::Time deadline) { impl_->Shutdown(deadline); }

}  // namespace halftone
