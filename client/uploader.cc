#include "client/uploader.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/files.h"
#include "core/base/sha256.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;  // what FileChunk recommends

using ProgressFn = std::function<void(const UploadProgress&)>;

class Uploader {
 public:
  Uploader(Connection& server, const ProgressFn& progress) : server_(server), progress_(progress) {}

  absl::Status Open(const std::string& name, absl::Span<const std::string> paths);
  absl::StatusOr<UploadResult> Run();

 private:
  absl::StatusOr<std::vector<int64_t>> AskReceived();
  absl::StatusOr<v1::Model> Send(const std::vector<int64_t>& received);
  // False: the server ended the call; its status says why.
  bool SendFile(grpc::ClientWriter<v1::UploadModelRequest>& stream, int index, int64_t offset);

  Connection& server_;
  const ProgressFn& progress_;
  v1::UploadHeader header_;
  std::vector<std::shared_ptr<Buffer>> files_;
  UploadProgress state_;
};

absl::Status Uploader::Open(const std::string& name, absl::Span<const std::string> paths) {
  header_.set_model(name);
  for (const std::string& path : paths) {
    HT_ASSIGN_OR_RETURN(files_.emplace_back(), OpenFile(path));
    state_.bytes_total += files_.back()->size();
  }
  state_.stage = "hash";
  for (size_t i = 0; i < paths.size(); ++i) {
    const absl::string_view bytes = AsText(*files_[i]);
    Sha256 hash;
    for (size_t at = 0; at < bytes.size(); at += kChunkBytes) {
      progress_(state_);
      const absl::string_view chunk = bytes.substr(at, kChunkBytes);
      hash.Update(chunk);
      files_[i]->DropPages(at, chunk.size());
      state_.bytes_done += chunk.size();
    }
    v1::File* file = header_.add_files();
    file->set_name(std::filesystem::path(paths[i]).filename().string());
    file->set_bytes(bytes.size());
    file->set_sha256(hash.HexDigest());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> Uploader::AskReceived() {
  v1::GetUploadRequest request;
  v1::Upload upload;
  *request.mutable_header() = header_;
  HT_RETURN_IF_ERROR(
      server_.ToStatus(server_.models().GetUpload(server_.NewContext().get(), request, &upload)));
  std::vector<int64_t> received(upload.received_bytes().begin(), upload.received_bytes().end());
  received.resize(files_.size(), 0);
  for (size_t i = 0; i < files_.size(); ++i) {
    if (received[i] < 0 || received[i] > static_cast<int64_t>(files_[i]->size())) {
      return absl::InternalError(absl::StrCat("the server says it has ", received[i], " bytes of '",
                                              header_.files(i).name(), "', the file has ",
                                              files_[i]->size()));
    }
  }
  return received;
}

bool Uploader::SendFile(grpc::ClientWriter<v1::UploadModelRequest>& stream, int index,
                        int64_t offset) {
  const absl::string_view bytes = AsText(*files_[index]);
  for (size_t at = offset; at < bytes.size(); at += kChunkBytes) {
    const absl::string_view data = bytes.substr(at, kChunkBytes);
    v1::UploadModelRequest request;
    v1::FileChunk* chunk = request.mutable_chunk();
    chunk->set_file_index(index);
    chunk->set_offset(at);
    chunk->set_data(data.data(), data.size());
    if (!stream.Write(request)) return false;
    files_[index]->DropPages(at, data.size());
    state_.bytes_done += data.size();
    progress_(state_);
  }
  return true;
}

absl::StatusOr<v1::Model> Uploader::Send(const std::vector<int64_t>& received) {
  const std::unique_ptr<grpc::ClientContext> context = server_.NewContext();
  v1::UploadModelResponse response;
  const auto stream = server_.models().UploadModel(context.get(), &response);
  state_.stage = "send";
  state_.bytes_done = std::accumulate(received.begin(), received.end(), int64_t{0});
  progress_(state_);
  v1::UploadModelRequest request;
  *request.mutable_header() = header_;
  bool open = stream->Write(request);
  for (size_t i = 0; open && i < files_.size(); ++i) open = SendFile(*stream, i, received[i]);
  if (open) {
    state_.stage = "import";
    progress_(state_);
    stream->WritesDone();
  }
  HT_RETURN_IF_ERROR(server_.ToStatus(stream->Finish()));
  return std::move(*response.mutable_model());
}

absl::StatusOr<UploadResult> Uploader::Run() {
  UploadResult result{.total_bytes = state_.bytes_total};
  int64_t best = -1;  // bytes that the server had before the latest attempt
  while (true) {
    HT_ASSIGN_OR_RETURN(const std::vector<int64_t> received, AskReceived());
    const int64_t bytes = std::accumulate(received.begin(), received.end(), int64_t{0});
    if (best < 0) result.resumed_bytes = bytes;
    absl::StatusOr<v1::Model> model = Send(received);
    if (model.ok()) {
      result.model = *std::move(model);
      return result;
    }
    // An attempt that brought nothing across ends it: the server is away, not the line bad.
    if (!absl::IsUnavailable(model.status()) || bytes <= best) return model.status();
    best = bytes;
    HT_RETURN_IF_ERROR(server_.Connect());
  }
}

}  // namespace

absl::StatusOr<UploadResult> UploadModel(Connection& server, const std::string& name,
                                         absl::Span<const std::string> paths,
                                         const ProgressFn& progress) {
  Uploader uploader(server, progress);
  HT_RETURN_IF_ERROR(uploader.Open(name, paths));
  return uploader.Run();
}

}  // namespace halftone
