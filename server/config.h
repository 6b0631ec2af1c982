// The settings of halftone-server: one table drives flags, file keys, help text and defaults.
//
//   HT_ASSIGN_OR_RETURN(ConfigAction action, ParseCommandLine(args));   // defaults < file < flags
//
// A setting `max_queued_requests` is the flag --max_queued_requests=N (or with '-' for '_') and the
// key of the same name in the file. Bytes accept the suffixes KiB, MiB, GiB; durations those of Go
// ("5s", "1m30s").
#ifndef HALFTONE_SERVER_CONFIG_H_
#define HALFTONE_SERVER_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace halftone {

struct ServerConfig {
  std::string host = "0.0.0.0";
  int port = 8001;  // 0: any free port
  std::string metrics_host = "0.0.0.0";
  int metrics_port = 8002;  // 0: any free port
  std::string ports_file;
  std::string store = "./halftone-store";

  int workers = 0;  // 0: cores of the budget / threads_per_worker
  int threads_per_worker = 1;
  int wide_threads = 0;  // 0: those of all workers; 1: nothing runs wide
  int build_threads = 1;
  int max_queued_requests = 256;
  int max_contexts_per_worker = 8;
  int max_stream_inflight = 16;

  int64_t resident_budget_bytes = 0;  // 0: half of the memory limit
  int64_t disk_budget_bytes = int64_t{64} << 30;
  int64_t max_upload_bytes = int64_t{16} << 30;
  int64_t max_calibration_bytes = int64_t{1} << 30;
  int64_t max_live_sample_bytes = int64_t{256} << 20;
  int64_t max_message_bytes = int64_t{128} << 20;
  int64_t max_inflight_bytes = int64_t{1} << 30;

  absl::Duration drain_delay = absl::Seconds(5);
  absl::Duration shutdown_timeout = absl::Seconds(20);
  absl::Duration max_connection_age = absl::ZeroDuration();  // zero: for ever
  bool reflection = true;

  bool operator==(const ServerConfig&) const = default;
};

// The file's settings over `config`. Keys that do not exist, values of the wrong kind and values
// out of range are INVALID_ARGUMENT and name the key (and the nearest one that exists).
absl::Status ApplyConfigText(absl::string_view yaml_or_json, ServerConfig& config);

struct CommandLine {
  ServerConfig config;
  bool help = false;
  bool version = false;
};
// `args` without the program's name. --config PATH names the file.
absl::StatusOr<CommandLine> ParseCommandLine(absl::Span<const std::string> args);

// One paragraph per setting, with its default.
std::string ConfigHelp();

}  // namespace halftone

#endif  // HALFTONE_SERVER_CONFIG_H_
