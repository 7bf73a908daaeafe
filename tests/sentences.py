"""The same two or three sentences in six languages, for the tests of texts and languages."""

SIMPLIFIED = "春天来了，河边的柳树发芽了。孩子们在草地上放风筝，老人坐在长椅上聊天，大家都说今年的天气比去年好。"
TRADITIONAL = "春天來了，河邊的柳樹發芽了。孩子們在草地上放風箏，老人坐在長椅上聊天，大家都說今年的天氣比去年好。"
ENGLISH = "Spring has come and the willows by the river are green. It is a day that children were waiting for."
JAPANESE = "春が来て、川辺の柳が芽を出しました。子どもたちは草原で凧を揚げ、お年寄りはベンチで話しています。"
KOREAN = "봄이 왔고 강가의 버드나무에 싹이 났습니다. 아이들은 잔디밭에서 연을 날리고 노인들은 이야기를 나눕니다."
FRENCH = "Le printemps est arrivé et les saules au bord de la rivière sont verts. Les enfants jouent dans le pré."
