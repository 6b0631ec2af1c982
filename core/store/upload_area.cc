#include "core/store/upload_area.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "core/base/sha256.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using nlohmann::json;

constexpr char kHeaderFile[] = "header.json";
constexpr int kMaxFiles = 1000;
constexpr int64_t kMaxHeaderBytes = int64_t{1} << 20;

absl::Status CheckFile(const FileInfo& file, std::set<std::string>& names) {
  HT_RETURN_IF_ERROR(CheckName("file name", file.name));
  const std::string where = absl::StrCat("file '", file.name, "'");
  if (!names.insert(file.name).second) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": listed twice"));
  }
  if (file.bytes <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": got size ", file.bytes, ", want at least 1 byte"));
  }
  if (!IsSha256Hex(file.sha256)) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": got SHA-256 '",
                                                   absl::string_view(file.sha256).substr(0, 80),
                                                   "', want 64 hexadecimal digits"));
  }
  return absl::OkStatus();
}

std::optional<UploadHeader> HeaderFromJson(const std::string& text) {
  try {
    const json parsed = json::parse(text);
    UploadHeader header{.id = parsed.at("id"),
                        .model = parsed.at("model"),
                        .created = absl::FromUnixMicros(parsed.at("created_micros"))};
    for (const json& f : parsed.at("files")) {
      header.files.push_back(
          {.name = f.at("name"), .bytes = f.at("bytes"), .sha256 = f.at("sha256")});
    }
    return header;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

std::string ToText(const UploadHeader& header) {
  json files = json::array();
  for (const FileInfo& f : header.files) {
    files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  }
  return json({{"id", header.id},
               {"model", header.model},
               {"created_micros", absl::ToUnixMicros(header.created)},
               {"files", files}})
      .dump(1);
}

std::string Describe(absl::Span<const FileInfo> files) {
  std::string out;
  for (const FileInfo& f : files) absl::StrAppend(&out, f.name, " ", f.bytes, " ", f.sha256, "\n");
  return out;
}

}  // namespace

int64_t UploadHeader::total_bytes() const {
  int64_t sum = 0;
  for (const FileInfo& f : files) sum += f.bytes;
  return sum;
}

std::string ModelDigest(std::vector<FileInfo> files) {
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return Sha256Hex(absl::StrCat("halftone-model\n", Describe(files)));
}

absl::StatusOr<UploadHeader> MakeUploadHeader(const std::string& model, std::vector<FileInfo> files,
                                              absl::Time now) {
  HT_RETURN_IF_ERROR(CheckName("model name", model));
  if (files.empty() || files.size() > kMaxFiles) {
    return absl::InvalidArgumentError(
        absl::StrCat("model '", model, "': got ", files.size(), " files, want 1 to ", kMaxFiles));
  }
  std::set<std::string> names;
  int64_t total = 0;
  int onnx_files = 0;
  for (FileInfo& file : files) {
    absl::AsciiStrToLower(&file.sha256);
    HT_RETURN_IF_ERROR(CheckFile(file, names));
    if (__builtin_add_overflow(total, file.bytes, &total)) {
      return absl::InvalidArgumentError(absl::StrCat("file '", file.name, "': sizes overflow"));
    }
    onnx_files += absl::EndsWith(file.name, ".onnx") ? 1 : 0;
  }
  if (onnx_files != 1) {
    return absl::InvalidArgumentError(absl::StrCat("model '", model, "': got ", onnx_files,
                                                   " files that end in .onnx, want exactly one"));
  }
  std::string id = Sha256Hex(absl::StrCat("halftone-upload\n", model, "\n", Describe(files)));
  id.resize(32);
  return UploadHeader{
      .id = std::move(id), .model = model, .files = std::move(files), .created = now};
}

std::string UploadArea::Folder(const std::string& id) const {
  return JoinPath(repository_.UploadsFolder(), id);
}

std::string UploadArea::FilePath(const UploadHeader& header, size_t index) const {
  return absl::StrCat(Folder(header.id), "/files/", header.files[index].name);
}

std::vector<UploadHeader> UploadArea::Scan(absl::Time oldest) {
  std::vector<UploadHeader> out;
  const auto ids = repository_.files().List(repository_.UploadsFolder());
  for (const std::string& id : ids.value_or(std::vector<std::string>())) {
    const auto text =
        ReadFile(repository_.files(), JoinPath(Folder(id), kHeaderFile), kMaxHeaderBytes);
    std::optional<UploadHeader> header = text.ok() ? HeaderFromJson(*text) : std::nullopt;
    if (header && header->id == id && header->created >= oldest && Received(*header).ok()) {
      out.push_back(*std::move(header));
      continue;
    }
    // Nothing is lost that the client cannot send again.
    LOG(WARNING) << "store: dropping upload " << id << ": unreadable or abandoned";
    if (const absl::Status s = repository_.Remove(Folder(id)); !s.ok())
      LOG(WARNING) << "store: " << s;
  }
  return out;
}

absl::Status UploadArea::Create(const UploadHeader& header) {
  FileSystem& files = repository_.files();
  const std::string temporary = repository_.TemporaryPath();
  const auto write = [&]() -> absl::Status {
    HT_RETURN_IF_ERROR(files.MakeFolders(temporary + "/files"));
    for (const FileInfo& f : header.files) {
      HT_RETURN_IF_ERROR(WriteNewFile(files, absl::StrCat(temporary, "/files/", f.name), ""));
    }
    HT_RETURN_IF_ERROR(WriteNewFile(files, JoinPath(temporary, kHeaderFile), ToText(header)));
    HT_RETURN_IF_ERROR(files.Rename(temporary, Folder(header.id)));
    return files.SyncFolder(repository_.UploadsFolder());
  };
  const absl::Status status = write();
  if (!status.ok()) {
    files.RemoveAll(temporary).IgnoreError();
    files.RemoveAll(Folder(header.id)).IgnoreError();
  }
  return status;
}

absl::StatusOr<std::vector<int64_t>> UploadArea::Received(const UploadHeader& header) const {
  std::vector<int64_t> out;
  for (size_t i = 0; i < header.files.size(); ++i) {
    HT_ASSIGN_OR_RETURN(out.emplace_back(), repository_.files().FileSize(FilePath(header, i)));
  }
  return out;
}

absl::Status UploadArea::Append(const UploadHeader& header, int file_index,
                                absl::string_view chunk) {
  // No sync per chunk: after a power failure the digests tell, and the client sends again.
  HT_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file,
                      repository_.files().OpenForAppend(FilePath(header, file_index)));
  return file->Append(chunk);
}

absl::Status UploadArea::Verify(const UploadHeader& header) const {
  for (size_t i = 0; i < header.files.size(); ++i) {
    HT_ASSIGN_OR_RETURN(const std::string got,
                        FileSha256(repository_.files(), FilePath(header, i)));
    if (got != header.files[i].sha256) {
      return absl::DataLossError(absl::StrCat("file '", header.files[i].name,
                                              "': received bytes have SHA-256 ", got, ", want ",
                                              header.files[i].sha256));
    }
  }
  return absl::OkStatus();
}

std::string UploadArea::OnnxPath(const UploadHeader& header) const {
  size_t index = 0;
  while (!absl::EndsWith(header.files[index].name, ".onnx")) ++index;
  return FilePath(header, index);
}

absl::Status UploadArea::Remove(const UploadHeader& header) {
  return repository_.Remove(Folder(header.id));
}

}  // namespace halftone
