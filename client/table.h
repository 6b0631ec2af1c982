// Aligned tables for people.
//
//   Table table({{"NAME"}, {"BYTES", Table::Align::kRight}});
//   table.AddRow({"digits", "4.93 MB"});
//   out << table.Text();
#ifndef HALFTONE_CLIENT_TABLE_H_
#define HALFTONE_CLIENT_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace halftone {

class Table {
 public:
  enum class Align : uint8_t { kLeft, kRight };
  struct Column {
    std::string title;  // all titles empty: no header line
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Requires: as many cells as columns.
  void AddRow(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  // Columns two spaces apart, no spaces at the ends of lines. Widths count characters (UTF-8).
  std::string Text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace halftone

#endif  // HALFTONE_CLIENT_TABLE_H_
