// What the services share. Server owns it all; it outlives the services.
#ifndef HALFTONE_SERVER_SERVICE_ENV_H_
#define HALFTONE_SERVER_SERVICE_ENV_H_

#include "core/store/model_store.h"
#include "server/config.h"
#include "server/inference_engine.h"
#include "server/live_samples.h"
#include "server/metrics.h"
#include "server/scheduler.h"
#include "server/task_pool.h"

namespace halftone {

struct ServiceEnv {
  const ServerConfig& config;
  ModelStore& store;
  Scheduler& scheduler;
  InferenceEngine& engine;
  LiveSamples& live_samples;
  Metrics& metrics;
  TaskPool& quick_pool;  // reads and writes of files, listings
  TaskPool& slow_pool;   // imports, waiting for builds, exports
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_SERVICE_ENV_H_
