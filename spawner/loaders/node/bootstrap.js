{const f=require("fs"),s=f.readFileSync(4,"utf8");f.closeSync(4);require("vm").runInThisContext("(function(require){"+s+"\n})",{filename:"hatchery-loader"})(require)}
