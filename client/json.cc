#include "client/json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>

#include <string>

namespace halftone {
namespace {

using google::protobuf::Duration;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::Timestamp;
using google::protobuf::util::TimeUtil;

// The value of a single field, or of element `i` of a repeated one (i >= 0).
Json ValueOf(const Message& m, const FieldDescriptor* field, int i) {
  const Reflection* r = m.GetReflection();
  const bool many = i >= 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return many ? r->GetRepeatedInt32(m, field, i) : r->GetInt32(m, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return many ? r->GetRepeatedInt64(m, field, i) : r->GetInt64(m, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return many ? r->GetRepeatedUInt32(m, field, i) : r->GetUInt32(m, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return many ? r->GetRepeatedUInt64(m, field, i) : r->GetUInt64(m, field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return many ? r->GetRepeatedDouble(m, field, i) : r->GetDouble(m, field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return many ? r->GetRepeatedFloat(m, field, i) : r->GetFloat(m, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return many ? r->GetRepeatedBool(m, field, i) : r->GetBool(m, field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return many ? r->GetRepeatedEnum(m, field, i)->name() : r->GetEnum(m, field)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return many ? r->GetRepeatedString(m, field, i) : r->GetString(m, field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(many ? r->GetRepeatedMessage(m, field, i) : r->GetMessage(m, field));
  }
  return nullptr;
}

Json MapOf(const Message& m, const FieldDescriptor* field) {
  Json map = Json::object();
  const Reflection* r = m.GetReflection();
  const FieldDescriptor* key = field->message_type()->map_key();
  const FieldDescriptor* value = field->message_type()->map_value();
  for (int i = 0; i < r->FieldSize(m, field); ++i) {
    const Message& entry = r->GetRepeatedMessage(m, field, i);
    const Json name = ValueOf(entry, key, -1);
    map[name.is_string() ? name.get<std::string>() : name.dump()] = ValueOf(entry, value, -1);
  }
  return map;
}

}  // namespace

Json ToJson(const Message& message) {
  if (message.GetDescriptor() == Duration::descriptor()) {
    const auto& duration = static_cast<const Duration&>(message);
    return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
  }
  if (message.GetDescriptor() == Timestamp::descriptor()) {
    return TimeUtil::ToString(static_cast<const Timestamp&>(message));
  }
  Json json = Json::object();
  const Reflection* reflection = message.GetReflection();
  for (int f = 0; f < message.GetDescriptor()->field_count(); ++f) {
    const FieldDescriptor* field = message.GetDescriptor()->field(f);
    if (field->type() == FieldDescriptor::TYPE_BYTES) continue;
    if (field->is_map()) {
      json[field->name()] = MapOf(message, field);
    } else if (field->is_repeated()) {
      Json list = Json::array();
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        list.push_back(ValueOf(message, field, i));
      }
      json[field->name()] = std::move(list);
    } else if (!field->has_presence() || reflection->HasField(message, field)) {
      json[field->name()] = ValueOf(message, field, -1);
    }
  }
  return json;
}

}  // namespace halftone
