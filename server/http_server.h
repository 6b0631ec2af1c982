// A small HTTP server beside gRPC: GET of a few paths, each answered by a function.
//
//   HT_ASSIGN_OR_RETURN(std::unique_ptr<HttpServer> http, HttpServer::Listen("0.0.0.0:8002"));
//   http->Handle("/hello", [](const HttpRequest&) { return HttpResponse{.body = "world"}; });
//
// For Prometheus and for eyes. No bodies, no other methods, no files, two threads. Thread-safe.
#ifndef HALFTONE_SERVER_HTTP_SERVER_H_
#define HALFTONE_SERVER_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

class CivetHandler;
class CivetServer;

namespace halftone {

struct HttpRequest {
  std::string path;   // decoded, all of it: "/report/digits"
  std::string query;  // as it came, without '?'
};

// The decoded value of `name` in the query; empty when there is none.
std::string QueryValue(const HttpRequest& request, const std::string& name);

struct HttpResponse {
  int code = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
};

class HttpServer {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  // `address` is HOST:PORT, port 0 is any free one. UNAVAILABLE when it is taken.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Listen(const std::string& address);
  // Waits for handlers that run.
  ~HttpServer();

  // Answers GET of `path` and of everything below it. Other paths are 404. The handler is called
  // from several threads.
  void Handle(const std::string& path, Handler handler);

  int port() const;

 private:
  explicit HttpServer(std::unique_ptr<CivetServer> server);

  std::vector<std::unique_ptr<CivetHandler>> handlers_;  // outlive server_
  std::unique_ptr<CivetServer> server_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_HTTP_SERVER_H_
