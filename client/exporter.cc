#include "client/exporter.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/sha256.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

// A file on its way.
struct Incoming {
  std::string path;
  int64_t bytes = 0;
  int64_t received = 0;
  Sha256 hash;
  std::ofstream out;

  std::string PartPath() const { return absl::StrCat(path, ".part"); }
};

// Checks the stream's order and writes what comes.
class Receiver {
 public:
  explicit Receiver(std::string folder) : folder_(std::move(folder)) {}
  ~Receiver();  // removes what is incomplete

  absl::Status Take(const v1::ExportVariantResponse& message);
  // Gives the complete files their names.
  absl::StatusOr<std::vector<std::string>> Commit();
  int64_t received() const { return received_; }
  int64_t total() const { return total_; }

 private:
  absl::Status TakeHeader(const v1::ExportHeader& header);
  absl::Status TakeChunk(const v1::FileChunk& chunk);
  absl::Status TakeFooter(const v1::ExportFooter& footer);

  const std::string folder_;
  std::vector<Incoming> files_;
  int64_t received_ = 0;
  int64_t total_ = 0;
  bool checked_ = false;
  bool committed_ = false;
};

Receiver::~Receiver() {
  if (committed_) return;
  for (const Incoming& file : files_) {
    std::error_code error;
    std::filesystem::remove(file.PartPath(), error);
  }
}

absl::Status Receiver::TakeHeader(const v1::ExportHeader& header) {
  if (!files_.empty()) return absl::DataLossError("the server sent a second header");
  for (const v1::File& file : header.files()) {
    // A server must not choose where on this machine it writes.
    const std::filesystem::path name(file.name());
    if (file.name().empty() || name.filename() != name || name == "." || name == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat("the server sent the file name '", file.name(), "', want a plain one"));
    }
    Incoming& incoming = files_.emplace_back();
    incoming.path = (std::filesystem::path(folder_) / name).string();
    incoming.bytes = file.bytes();
    total_ += file.bytes();
    incoming.out.open(incoming.PartPath(), std::ios::binary | std::ios::trunc);
    if (!incoming.out) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot write '", incoming.PartPath(), "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status Receiver::TakeChunk(const v1::FileChunk& chunk) {
  if (chunk.file_index() < 0 || chunk.file_index() >= static_cast<int>(files_.size())) {
    return absl::DataLossError(absl::StrCat("the server sent bytes of file ", chunk.file_index(),
                                            ", there are ", files_.size()));
  }
  Incoming& file = files_[chunk.file_index()];
  if (chunk.offset() != file.received) {
    return absl::DataLossError(absl::StrCat("'", file.path, "': got bytes at offset ",
                                            chunk.offset(), ", want ", file.received));
  }
  file.out.write(chunk.data().data(), static_cast<std::streamsize>(chunk.data().size()));
  if (!file.out) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write '", file.PartPath(), "'"));
  }
  file.hash.Update(chunk.data());
  file.received += chunk.data().size();
  received_ += chunk.data().size();
  return absl::OkStatus();
}

absl::Status Receiver::TakeFooter(const v1::ExportFooter& footer) {
  if (checked_ || footer.files_size() != static_cast<int>(files_.size())) {
    return absl::DataLossError("the server's footer does not fit its header");
  }
  for (size_t i = 0; i < files_.size(); ++i) {
    Incoming& file = files_[i];
    const std::string digest = file.hash.HexDigest();
    if (file.received != file.bytes || digest != footer.files(i).sha256()) {
      return absl::DataLossError(absl::StrCat("'", file.path, "': got ", file.received,
                                              " bytes with SHA-256 ", digest, ", want ", file.bytes,
                                              " with ", footer.files(i).sha256()));
    }
    file.out.close();
    if (!file.out) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot write '", file.PartPath(), "'"));
    }
  }
  checked_ = true;
  return absl::OkStatus();
}

absl::Status Receiver::Take(const v1::ExportVariantResponse& message) {
  if (checked_) return absl::DataLossError("the server sent more after its footer");
  switch (message.part_case()) {
    case v1::ExportVariantResponse::kHeader:
      return TakeHeader(message.header());
    case v1::ExportVariantResponse::kChunk:
      return TakeChunk(message.chunk());
    case v1::ExportVariantResponse::kFooter:
      return TakeFooter(message.footer());
    case v1::ExportVariantResponse::PART_NOT_SET:
      break;
  }
  return absl::OkStatus();  // a part of a newer server
}

absl::StatusOr<std::vector<std::string>> Receiver::Commit() {
  if (!checked_) return absl::DataLossError("the export ended before it was complete");
  std::vector<std::string> paths;
  for (const Incoming& file : files_) {
    std::error_code error;
    std::filesystem::rename(file.PartPath(), file.path, error);
    if (error) {
      return absl::UnknownError(absl::StrCat("cannot write '", file.path, "': ", error.message()));
    }
    paths.push_back(file.path);
  }
  committed_ = true;
  return paths;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExportVariant(
    Connection& server, const v1::ExportVariantRequest& request, const std::string& folder,
    const std::function<void(int64_t, int64_t)>& progress) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot make folder '", folder, "': ", error.message()));
  }
  const std::unique_ptr<grpc::ClientContext> context = server.NewContext();
  const auto stream = server.quantization().ExportVariant(context.get(), request);
  Receiver receiver(folder);
  v1::ExportVariantResponse message;
  absl::Status local;
  while (stream->Read(&message)) {
    local = receiver.Take(message);
    if (!local.ok()) {
      context->TryCancel();
      break;
    }
    progress(receiver.received(), receiver.total());
  }
  const grpc::Status remote = stream->Finish();
  HT_RETURN_IF_ERROR(local);  // first: it is the reason why the call was cancelled
  HT_RETURN_IF_ERROR(server.ToStatus(remote));
  return receiver.Commit();
}

}  // namespace halftone
