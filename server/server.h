// The whole server: wires store, scheduler, metrics and services, and owns them.
//
//   HT_ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Server::Start(config));
//   … server->port() …
//   server->BeginDrain();                                // health says NOT_SERVING
//   server->Shutdown(absl::Now() + absl::Seconds(20));   // finishes calls, then cancels the rest
//
// Several servers in one process work side by side, each with its own store folder. Thread-safe.
#ifndef HALFTONE_SERVER_SERVER_H_
#define HALFTONE_SERVER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/config.h"

namespace halftone {

class Server {
 public:
  // Serves when it returns. UNAVAILABLE when a port is taken, or the store's own error.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerConfig config);
  // Cancels what runs.
  ~Server();

  int port() const;          // of gRPC
  int metrics_port() const;  // of http://…/metrics and http://…/report
  // What the automatic settings became, for people.
  std::string Summary() const;

  void BeginDrain();
  // Refuses new calls, lets running ones finish until `deadline`, then cancels them. Once.
  void Shutdown(absl::Time deadline);

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_SERVER_H_
