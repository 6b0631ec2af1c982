#include "core/store/repository.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using nlohmann::json;

constexpr char kModelFile[] = "model.onnx";
constexpr char kWeightsFile[] = "weights.bin";
constexpr char kReportFile[] = "report.json";
constexpr char kSamplesFile[] = "samples.bin";
constexpr int64_t kMaxReportBytes = int64_t{256} << 20;
constexpr char kRangesFile[] = "ranges.bin";
constexpr int64_t kMaxRangesBytes = int64_t{256} << 20;

json ToJson(const std::vector<TensorSignature>& tensors) {
  json out = json::array();
  for (const TensorSignature& t : tensors) {
    json dims = json::array();  // a number, a symbol, or null for an unknown dimension
    for (const Dim& d : t.shape) {
      dims.push_back(d.known() ? json(d.value) : d.symbol.empty() ? json() : json(d.symbol));
    }
    out.push_back({{"name", t.name}, {"type", std::string(Name(t.type))}, {"shape", dims}});
  }
  return out;
}

std::vector<TensorSignature> SignatureFromJson(const json& list) {
  std::vector<TensorSignature> out;
  for (const json& item : list) {
    TensorSignature t{.name = item.at("name")};
    t.type = DataTypeFromName(item.at("type").get<std::string>()).value_or(DataType::kF32);
    for (const json& dim : item.at("shape")) {
      t.shape.push_back(dim.is_number()   ? Dim(dim.get<int64_t>())
                        : dim.is_string() ? Dim(dim.get<std::string>())
                                          : Dim());
    }
    out.push_back(std::move(t));
  }
  return out;
}

json ToJson(const StoredModel& model) {
  return {{"kind", "model"},
          {"name", model.info.name},
          {"digest", model.info.digest},
          {"uploaded_bytes", model.info.bytes},
          {"created_micros", absl::ToUnixMicros(model.info.created)},
          {"inputs", ToJson(model.info.signature.inputs)},
          {"outputs", ToJson(model.info.signature.outputs)},
          {"upload_id", model.upload_id}};
}

StoredModel ModelFromJson(const Manifest& manifest, int version) {
  const json& fields = manifest.fields;
  StoredModel model;
  model.info.name = fields.at("name");
  model.info.version = version;
  model.info.digest = fields.at("digest");
  model.info.bytes = fields.at("uploaded_bytes");
  model.info.created = absl::FromUnixMicros(fields.at("created_micros"));
  model.info.signature.inputs = SignatureFromJson(fields.at("inputs"));
  model.info.signature.outputs = SignatureFromJson(fields.at("outputs"));
  model.upload_id = fields.at("upload_id");
  model.disk_bytes = manifest.bytes();
  return model;
}

json ToJson(const StoredVariant& variant) {
  return {{"kind", "variant"},
          {"id", variant.id},
          {"spec", variant.spec},
          {"created_micros", absl::ToUnixMicros(variant.created)},
          {"calibration_digest", variant.calibration_digest},
          {"resident_bytes", variant.resident_bytes}};
}

StoredVariant VariantFromJson(const Manifest& manifest) {
  const json& fields = manifest.fields;
  return {.id = fields.at("id"),
          .spec = fields.at("spec"),
          .created = absl::FromUnixMicros(fields.at("created_micros")),
          .calibration_digest = fields.at("calibration_digest"),
          .disk_bytes = manifest.bytes(),
          .resident_bytes = fields.at("resident_bytes")};
}

// "a/b/c" below `directory` as a plain name: "a-b-c".
std::string FlatName(const std::string& directory, const std::string& path) {
  std::string name = path.substr(std::min(path.size(), directory.size() + 1));
  std::replace(name.begin(), name.end(), '/', '-');
  return name;
}

}  // namespace

absl::Status CheckName(absl::string_view what, absl::string_view name) {
  const bool fits = !name.empty() && name.size() <= 128 && name[0] != '.' &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
                             c == '_' || c == '-';
                    });
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": got '", absl::string_view(name).substr(0, 200),
                   "', want 1 to 128 letters, digits, '.', '_' or '-', not starting with '.'"));
}

Repository::Repository(FileSystem& files, std::string directory, std::unique_ptr<FileLock> lock)
    : files_(files), directory_(std::move(directory)), lock_(std::move(lock)) {}

absl::StatusOr<std::unique_ptr<Repository>> Repository::Open(FileSystem& files,
                                                             std::string directory) {
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  if (directory.empty()) return absl::InvalidArgumentError("store: the directory has no name");
  HT_RETURN_IF_ERROR(files.MakeFolders(directory));
  HT_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock, files.Lock(JoinPath(directory, "lock")));
  HT_RETURN_IF_ERROR(files.RemoveAll(JoinPath(directory, "tmp")));
  for (const char* name : {"models", "uploads", "tmp", "damaged"}) {
    HT_RETURN_IF_ERROR(files.MakeFolders(JoinPath(directory, name)));
  }
  HT_RETURN_IF_ERROR(files.SyncFolder(directory));
  return std::unique_ptr<Repository>(new Repository(files, std::move(directory), std::move(lock)));
}

std::string Repository::ModelFolder(const std::string& name, int version) const {
  return absl::StrCat(directory_, "/models/", name, "/", version);
}

std::string Repository::VariantFolder(const std::string& name, int version,
                                      const std::string& id) const {
  return absl::StrCat(ModelFolder(name, version), "/variants/", id);
}

std::string Repository::CalibrationFolder(const std::string& name, int sequence) const {
  return absl::StrCat(directory_, "/models/", name, "/calibration/", sequence);
}

std::string Repository::TemporaryPath() {
  return absl::StrCat(directory_, "/tmp/", next_temporary_.fetch_add(1));
}

std::vector<std::string> Repository::Children(const std::string& folder) const {
  return files_.List(folder).value_or(std::vector<std::string>());
}

bool Repository::HasVersions(const std::string& name) const {
  const auto children = Children(absl::StrCat(directory_, "/models/", name));
  return std::any_of(children.begin(), children.end(), [](const std::string& child) {
    int version = 0;
    return absl::SimpleAtoi(child, &version);
  });
}

bool Repository::ReadBundle(const std::string& folder, std::vector<std::string>& damaged,
                            const std::function<void(const Manifest&)>& parse) {
  absl::StatusOr<Manifest> manifest = ReadManifest(files_, folder);
  absl::Status status = manifest.status();
  if (status.ok()) {
    try {
      parse(*manifest);
      return true;
    } catch (const json::exception& e) {
      status = absl::DataLossError(absl::StrCat(folder, ": ", e.what()));
    }
  }
  // Only what is certainly broken is moved: a passing failure to read must not hide good data.
  std::string where = folder;
  if (absl::IsDataLoss(status)) where = SetAside(folder);
  LOG(ERROR) << "store: " << status << "; now in " << where;
  damaged.push_back(absl::StrCat(where, ": ", status.message()));
  return false;
}

void Repository::ScanFamily(const std::string& name, StoredFamily& family,
                            std::vector<std::string>& damaged) {
  const std::string root = absl::StrCat(directory_, "/models/", name);
  for (const std::string& child : Children(root)) {
    int version = 0;
    if (!absl::SimpleAtoi(child, &version) || version < 1) continue;
    StoredVersion found;
    const std::string folder = ModelFolder(name, version);
    if (!ReadBundle(folder, damaged,
                    [&](const Manifest& m) { found.model = ModelFromJson(m, version); })) {
      continue;
    }
    for (const std::string& id : Children(folder + "/variants")) {
      ReadBundle(VariantFolder(name, version, id), damaged,
                 [&](const Manifest& m) { found.variants.push_back(VariantFromJson(m)); });
    }
    family.versions[version] = std::move(found);
  }
  for (const std::string& child : Children(root + "/calibration")) {
    int sequence = 0;
    if (!absl::SimpleAtoi(child, &sequence) || sequence < 1) continue;
    ReadBundle(CalibrationFolder(name, sequence), damaged, [&](const Manifest& m) {
      family.calibration.push_back({.ref = {.name = m.fields.at("name"),
                                            .sequence = sequence,
                                            .digest = m.fields.at("digest")},
                                    .disk_bytes = m.bytes()});
    });
  }
  std::sort(family.calibration.begin(), family.calibration.end(),
            [](const auto& a, const auto& b) { return a.ref.sequence < b.ref.sequence; });
  DropReplaced(name, family);
}

void Repository::DropReplaced(const std::string& name, StoredFamily& family) {
  std::set<std::string> newer;
  for (auto it = family.calibration.rbegin(); it != family.calibration.rend(); ++it) {
    if (newer.insert(it->ref.name).second) continue;
    const absl::Status s = Remove(CalibrationFolder(name, it->ref.sequence));
    if (!s.ok()) LOG(WARNING) << "store: " << s;
    it->ref.sequence = 0;
  }
  std::erase_if(family.calibration, [](const auto& set) { return set.ref.sequence == 0; });
}

std::map<std::string, StoredFamily> Repository::Scan(std::vector<std::string>& damaged) {
  for (const std::string& name : Children(JoinPath(directory_, "damaged"))) {
    damaged.push_back(absl::StrCat(directory_, "/damaged/", name, ": set aside earlier"));
  }
  std::map<std::string, StoredFamily> out;
  for (const std::string& name : Children(JoinPath(directory_, "models"))) {
    if (!CheckName("model", name).ok()) continue;
    StoredFamily family;
    ScanFamily(name, family, damaged);
    if (!family.versions.empty()) {
      out[name] = std::move(family);
    } else if (!HasVersions(name)) {
      // Samples without a model are of no use. If this fails, the next opening tries again.
      if (const absl::Status s = Remove(absl::StrCat(directory_, "/models/", name)); !s.ok()) {
        LOG(WARNING) << "store: " << s;
      }
    }
  }
  return out;
}

absl::StatusOr<std::unique_ptr<BundleWriter>> Repository::WriteGraph(const Exporter& exporter) {
  HT_ASSIGN_OR_RETURN(auto bundle, BundleWriter::Create(files_, TemporaryPath()));
  HT_ASSIGN_OR_RETURN(const ExportedModel exported, exporter([&](absl::string_view chunk) {
                        return bundle->Append(kWeightsFile, chunk);
                      }));
  HT_RETURN_IF_ERROR(bundle->Append(kModelFile, exported.onnx));
  return bundle;
}

absl::StatusOr<std::unique_ptr<BundleWriter>> Repository::WriteTemporary(const Exporter& exporter) {
  HT_ASSIGN_OR_RETURN(auto bundle, WriteGraph(exporter));
  HT_RETURN_IF_ERROR(bundle->Seal(json::object()));
  return bundle;
}

absl::StatusOr<std::unique_ptr<BundleWriter>> Repository::WriteModel(const StoredModel& model,
                                                                     const Exporter& exporter) {
  HT_ASSIGN_OR_RETURN(auto bundle, WriteGraph(exporter));
  HT_RETURN_IF_ERROR(bundle->Seal(ToJson(model)));
  return bundle;
}

absl::StatusOr<std::unique_ptr<BundleWriter>> Repository::WriteVariant(
    const StoredVariant& variant, const std::string& report_json, const Exporter& exporter) {
  HT_ASSIGN_OR_RETURN(auto bundle, WriteGraph(exporter));
  HT_RETURN_IF_ERROR(bundle->Append(kReportFile, report_json));
  HT_RETURN_IF_ERROR(bundle->Seal(ToJson(variant)));
  return bundle;
}

absl::StatusOr<std::unique_ptr<BundleWriter>> Repository::WriteCalibration(
    const CalibrationRef& ref, const Samples& samples) {
  HT_ASSIGN_OR_RETURN(auto bundle, BundleWriter::Create(files_, TemporaryPath()));
  HT_ASSIGN_OR_RETURN(const json layout, WriteSamples(samples, [&](absl::string_view chunk) {
                        return bundle->Append(kSamplesFile, chunk);
                      }));
  HT_RETURN_IF_ERROR(bundle->Seal(
      {{"kind", "calibration"}, {"name", ref.name}, {"digest", ref.digest}, {"samples", layout}}));
  return bundle;
}

std::optional<std::string> Repository::ReadRanges(const std::string& calibration_folder,
                                                  const std::string& key) const {
  const std::string folder = absl::StrCat(calibration_folder, "/ranges/", key);
  if (!files_.Exists(folder)) return std::nullopt;
  const absl::StatusOr<Manifest> manifest = ReadManifest(files_, folder);
  if (!manifest.ok() || !VerifyDigests(files_, folder, *manifest).ok()) return std::nullopt;
  const auto bytes = ReadFile(files_, JoinPath(folder, kRangesFile), kMaxRangesBytes);
  if (!bytes.ok()) return std::nullopt;
  return *bytes;
}

absl::Status Repository::WriteRanges(const std::string& calibration_folder, const std::string& key,
                                     absl::string_view bytes) {
  const std::string folder = absl::StrCat(calibration_folder, "/ranges/", key);
  if (bytes.empty()) return Remove(folder);
  HT_RETURN_IF_ERROR(Remove(folder));
  if (Children(absl::StrCat(calibration_folder, "/ranges")).size() >= kMaxCachedRanges) {
    return absl::ResourceExhaustedError(
        absl::StrCat(calibration_folder, ": has ", kMaxCachedRanges, " cached ranges already"));
  }
  HT_ASSIGN_OR_RETURN(auto bundle, BundleWriter::Create(files_, TemporaryPath()));
  HT_RETURN_IF_ERROR(bundle->Append(kRangesFile, bytes));
  HT_RETURN_IF_ERROR(bundle->Seal({{"kind", "ranges"}}));
  return bundle->Commit(folder);
}

absl::Status Repository::Verify(const std::string& folder) const {
  HT_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(files_, folder));
  return VerifyDigests(files_, folder, manifest);
}

absl::StatusOr<Samples> Repository::ReadCalibration(const std::string& folder) const {
  HT_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(files_, folder));
  HT_RETURN_IF_ERROR(VerifyDigests(files_, folder, manifest));
  HT_ASSIGN_OR_RETURN(const auto bytes, files_.Map(JoinPath(folder, kSamplesFile)));
  return ReadSamples(manifest.fields.value("samples", json::array()), bytes);
}

absl::StatusOr<std::string> Repository::ReadReport(const std::string& folder) const {
  HT_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(files_, folder));
  HT_ASSIGN_OR_RETURN(std::string text,
                      ReadFile(files_, JoinPath(folder, kReportFile), kMaxReportBytes));
  for (const BundleFile& file : manifest.files) {
    if (file.name == kReportFile && file.sha256 == Sha256Hex(text)) return text;
  }
  return absl::DataLossError(absl::StrCat(folder, ": ", kReportFile, " was changed"));
}

absl::StatusOr<std::vector<std::string>> Repository::ModelFiles(const std::string& folder) const {
  HT_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(files_, folder));
  std::vector<std::string> out = {JoinPath(folder, kModelFile)};
  for (const BundleFile& file : manifest.files) {
    if (file.name == kWeightsFile) out.push_back(JoinPath(folder, kWeightsFile));
  }
  return out;
}

absl::Status Repository::Remove(const std::string& path) {
  if (!files_.Exists(path)) return absl::OkStatus();
  const std::string doomed = TemporaryPath();
  HT_RETURN_IF_ERROR(files_.Rename(path, doomed));
  HT_RETURN_IF_ERROR(files_.SyncFolder(path.substr(0, path.rfind('/'))));
  return files_.RemoveAll(doomed);
}

std::string Repository::SetAside(const std::string& path) {
  const std::string name = FlatName(directory_, path);
  for (int n = 1;; ++n) {
    const std::string target = absl::StrCat(directory_, "/damaged/", n, "-", name);
    if (files_.Exists(target)) continue;
    const absl::Status moved = files_.Rename(path, target);
    if (moved.ok()) return target;
    LOG(ERROR) << "store: cannot set aside: " << moved;
    return path;
  }
}

}  // namespace halftone
