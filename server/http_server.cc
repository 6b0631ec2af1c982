#include "server/http_server.h"

#include <CivetServer.h>

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace halftone {
namespace {

// What our pages may do in a browser: show themselves. No script, no request, no frame.
constexpr char kPolicy[] =
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors "
    "'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
    "Cache-Control: no-store\r\n";

class FunctionHandler : public CivetHandler {
 public:
  explicit FunctionHandler(HttpServer::Handler handler) : handler_(std::move(handler)) {}

  bool handleGet(CivetServer*, mg_connection* connection) override {
    const mg_request_info* info = mg_get_request_info(connection);
    const HttpResponse response =
        handler_({.path = info->local_uri == nullptr ? "" : info->local_uri,
                  .query = info->query_string == nullptr ? "" : info->query_string});
    const std::string head = absl::StrCat(
        "HTTP/1.1 ", response.code, " ", mg_get_response_code_text(connection, response.code),
        "\r\nContent-Type: ", response.type, "\r\nContent-Length: ", response.body.size(), "\r\n",
        kPolicy, "Connection: close\r\n\r\n");
    mg_write(connection, head.data(), head.size());
    mg_write(connection, response.body.data(), response.body.size());
    return true;
  }

 private:
  const HttpServer::Handler handler_;
};

}  // namespace

std::string QueryValue(const HttpRequest& request, const std::string& name) {
  std::string value;
  CivetServer::getParam(request.query, name.c_str(), value);
  return value;
}

HttpServer::HttpServer(std::unique_ptr<CivetServer> server) : server_(std::move(server)) {}

HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Listen(const std::string& address) {
  try {
    return std::unique_ptr<HttpServer>(new HttpServer(std::make_unique<CivetServer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", "2"})));
  } catch (const std::exception& e) {
    return absl::UnavailableError(
        absl::StrCat("metrics: cannot listen on ", address, ": ", e.what()));
  }
}

void HttpServer::Handle(const std::string& path, Handler handler) {
  handlers_.push_back(std::make_unique<FunctionHandler>(std::move(handler)));
  server_->addHandler(path, *handlers_.back());
}

int HttpServer::port() const { return server_->getListeningPorts().front(); }

}  // namespace halftone
