// halftone-server: settings, ports, signals.
#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/log/globals.h"
#include "absl/log/initialize.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/config.h"
#include "server/server.h"
#include "server/version.h"

namespace halftone {
namespace {

// Written under another name first: who waits for the file finds it complete.
absl::Status WritePorts(const std::string& path, const Server& server) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  {
    std::ofstream file(temporary);
    file << "{\"grpc\": " << server.port() << ", \"metrics\": " << server.metrics_port() << "}\n";
    if (!file.flush()) {
      return absl::InternalError(absl::StrCat("--ports_file: cannot write '", path, "'"));
    }
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return absl::InternalError(absl::StrCat("--ports_file: cannot write '", path, "'"));
  }
  return absl::OkStatus();
}

absl::Status Serve(const ServerConfig& config, const sigset_t& stop_signals) {
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(config);
  if (!server.ok()) return server.status();
  std::cout << "halftone-server " << kVersion << ": " << (*server)->Summary() << "\n"
            << "gRPC on " << config.host << ":" << (*server)->port() << "\n"
            << "metrics on http://" << config.metrics_host << ":" << (*server)->metrics_port()
            << "/metrics\n"
            << "store in " << config.store << std::endl;
  if (!config.ports_file.empty()) {
    const absl::Status written = WritePorts(config.ports_file, **server);
    if (!written.ok()) return written;
  }
  int signal = 0;
  sigwait(&stop_signals, &signal);
  std::cout << "draining for " << absl::FormatDuration(config.drain_delay) << std::endl;
  (*server)->BeginDrain();
  // A second signal cuts the drain short.
  const timespec delay = absl::ToTimespec(config.drain_delay);
  sigtimedwait(&stop_signals, nullptr, &delay);
  (*server)->Shutdown(absl::Now() + config.shutdown_timeout);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  const absl::StatusOr<CommandLine> line = ParseCommandLine(args);
  if (!line.ok()) {
    std::cerr << "halftone-server: " << line.status().message()
              << "\n(--help lists all settings)\n";
    return 2;
  }
  if (line->help) {
    std::cout << ConfigHelp();
    return 0;
  }
  if (line->version) {
    std::cout << "halftone-server " << kVersion << "\n";
    return 0;
  }
  absl::InitializeLog();
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kInfo);
  // Before any thread starts, so that all of them leave these signals to sigwait.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
  const absl::Status status = Serve(line->config, stop_signals);
  if (!status.ok()) {
    std::cerr << "halftone-server: " << status.message() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) { return halftone::Main(argc, argv); }
